"""DynamiCrafter for ComfyUI: the pack's face. Nothing is imported before the host asks for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> object:
    from .nodes.extension import DynamiCrafterNodes

    return DynamiCrafterNodes()
