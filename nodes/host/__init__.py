"""Adapters over ComfyUI's own code: the only place that imports comfy."""
