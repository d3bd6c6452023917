"""DynamiCrafter and its family (VideoCrafter, ToonCrafter) in plain PyTorch: a still image and a prompt become a video.

    from dynamicrafter_core import Pipeline

    clip = Pipeline("dynamicrafter_512.ckpt").animate("photo.jpg", "a boat on the sea")
    clip.save("boat.mp4")

Names are imported when they are first asked for, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch.render import render
    from .camera.camera import Camera
    from .checkpoints.checkpoint import load_checkpoint
    from .checkpoints.conversion import convert
    from .checkpoints.detection import detect
    from .checkpoints.merging import merge
    from .diffusion.consistency import consistency_timesteps, sample_consistency
    from .diffusion.guidance import guide
    from .diffusion.sampling import sample_ddim
    from .diffusion.schedule import NoiseSchedule, ddim_timesteps
    from .errors import InputError
    from .families import FAMILIES
    from .film.film import make_film
    from .film.script import read_script
    from .models.autoencoder import Autoencoder, AutoencoderConfig
    from .models.hooks import AttentionHooks, BlockHooks, Hooks, InnerHook
    from .models.preprocess import preprocess_for_clip
    from .models.projector import Projector, ProjectorConfig
    from .models.unet import VideoUNet
    from .models.unet_config import UNetConfig
    from .pipeline.pipeline import Pipeline

__version__ = "0.1.0"

__all__ = [
    "FAMILIES",
    "AttentionHooks",
    "Autoencoder",
    "AutoencoderConfig",
    "BlockHooks",
    "Camera",
    "Hooks",
    "InnerHook",
    "InputError",
    "NoiseSchedule",
    "Pipeline",
    "Projector",
    "ProjectorConfig",
    "UNetConfig",
    "VideoUNet",
    "consistency_timesteps",
    "convert",
    "ddim_timesteps",
    "detect",
    "guide",
    "load_checkpoint",
    "make_film",
    "merge",
    "preprocess_for_clip",
    "read_script",
    "render",
    "sample_consistency",
    "sample_ddim",
]

_HOMES = {
    "FAMILIES": "families",
    "AttentionHooks": "models.hooks",
    "Autoencoder": "models.autoencoder",
    "AutoencoderConfig": "models.autoencoder",
    "BlockHooks": "models.hooks",
    "Camera": "camera.camera",
    "Hooks": "models.hooks",
    "InnerHook": "models.hooks",
    "InputError": "errors",
    "NoiseSchedule": "diffusion.schedule",
    "Pipeline": "pipeline.pipeline",
    "Projector": "models.projector",
    "ProjectorConfig": "models.projector",
    "UNetConfig": "models.unet_config",
    "VideoUNet": "models.unet",
    "consistency_timesteps": "diffusion.consistency",
    "convert": "checkpoints.conversion",
    "ddim_timesteps": "diffusion.schedule",
    "detect": "checkpoints.detection",
    "guide": "diffusion.guidance",
    "load_checkpoint": "checkpoints.checkpoint",
    "make_film": "film.film",
    "merge": "checkpoints.merging",
    "preprocess_for_clip": "models.preprocess",
    "read_script": "film.script",
    "render": "batch.render",
    "sample_consistency": "diffusion.consistency",
    "sample_ddim": "diffusion.sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
