"""DynamiCrafter and its family (VideoCrafter, ToonCrafter) in plain PyTorch: a still image and a prompt become a video.

    from dynamicrafter_core import Pipeline

    clip = Pipeline("dynamicrafter_512.ckpt").animate("photo.jpg", "a boat on the sea")
    clip.save("boat.mp4")

Names are imported when they are first asked for, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .autoencoder import Autoencoder, AutoencoderConfig
    from .checkpoint import load_checkpoint
    from .conversion import convert
    from .detection import detect
    from .errors import InputError
    from .families import FAMILIES
    from .guidance import guide
    from .pipeline import Pipeline
    from .preprocess import preprocess_for_clip
    from .projector import Projector, ProjectorConfig
    from .sampling import sample_ddim
    from .schedule import NoiseSchedule, ddim_timesteps
    from .unet import VideoUNet
    from .unet_config import UNetConfig

__version__ = "0.1.0"

__all__ = [
    "FAMILIES",
    "Autoencoder",
    "AutoencoderConfig",
    "InputError",
    "NoiseSchedule",
    "Pipeline",
    "Projector",
    "ProjectorConfig",
    "UNetConfig",
    "VideoUNet",
    "convert",
    "ddim_timesteps",
    "detect",
    "guide",
    "load_checkpoint",
    "preprocess_for_clip",
    "sample_ddim",
]

_HOMES = {
    "FAMILIES": "families",
    "Autoencoder": "autoencoder",
    "AutoencoderConfig": "autoencoder",
    "InputError": "errors",
    "NoiseSchedule": "schedule",
    "Pipeline": "pipeline",
    "Projector": "projector",
    "ProjectorConfig": "projector",
    "UNetConfig": "unet_config",
    "VideoUNet": "unet",
    "convert": "conversion",
    "ddim_timesteps": "schedule",
    "detect": "detection",
    "guide": "guidance",
    "load_checkpoint": "checkpoint",
    "preprocess_for_clip": "preprocess",
    "sample_ddim": "sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
