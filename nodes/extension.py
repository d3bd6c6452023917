"""The pack's nodes as the host registers them."""

from comfy_api.latest import ComfyExtension, io

from .camera import DynamiCrafterCameraPath
from .conditioning import DynamiCrafterImageContext, DynamiCrafterVisualGuidance
from .decoding import DynamiCrafterDecode
from .film import DynamiCrafterFilm, DynamiCrafterJoin
from .guidance import DynamiCrafterGuidance
from .loading import DynamiCrafterLoad, DynamiCrafterLoadParts
from .merging import DynamiCrafterMergeParts
from .motion import DynamiCrafterMotion
from .noise import DynamiCrafterFreeInit, DynamiCrafterNoise
from .replacements import register_replacements
from .sampling import DynamiCrafterDDIM, DynamiCrafterGuider, DynamiCrafterSampler, DynamiCrafterSchedule
from .sketch import DynamiCrafterSketch
from .speed import DynamiCrafterSpeed
from .strokes import DynamiCrafterStrokes
from .windows import DynamiCrafterWindows

NODES: list[type[io.ComfyNode]] = [
    DynamiCrafterLoad,
    DynamiCrafterLoadParts,
    DynamiCrafterImageContext,
    DynamiCrafterVisualGuidance,
    DynamiCrafterSampler,
    DynamiCrafterGuider,
    DynamiCrafterDDIM,
    DynamiCrafterSchedule,
    DynamiCrafterDecode,
    DynamiCrafterMergeParts,
    DynamiCrafterNoise,
    DynamiCrafterFreeInit,
    DynamiCrafterCameraPath,
    DynamiCrafterMotion,
    DynamiCrafterWindows,
    DynamiCrafterFilm,
    DynamiCrafterJoin,
    DynamiCrafterGuidance,
    DynamiCrafterSketch,
    DynamiCrafterStrokes,
    DynamiCrafterSpeed,
]


class DynamiCrafterNodes(ComfyExtension):
    async def on_load(self) -> None:
        await register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
