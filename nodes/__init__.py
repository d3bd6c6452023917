"""Everything that knows ComfyUI: node classes here, what touches the host's own code in `host`."""
