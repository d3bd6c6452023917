"""Image and prompt in, frames out, without ComfyUI."""
