"""What a run gives: frames, and all there is to say about them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def about_run(model: Path, variant: str, device: torch.device, dtype: torch.dtype, figures: Mapping[str, Any]) -> dict:
    """How a clip was made, for the saved file."""
    told = {"model": model.name, "variant": variant, "device": device.type, "dtype": str(dtype).removeprefix("torch.")}
    return {**told, **figures}


@dataclass(frozen=True)
class Clip:
    frames: Tensor  # t H W 3, uint8
    fps: float
    settings: Mapping[str, Any]  # what made it; saved with it
    seconds: Mapping[str, float] = field(default_factory=dict)  # stage -> time it took
    latents: Tensor | None = None  # c t h w: what the frames were decoded from
    peak_memory: int = 0  # bytes: allocated on the device, or on the CPU the process's resident set

    def save(self, target: str | os.PathLike[str]) -> Path:
        """Write an .mp4, a .gif, a .png contact sheet, or (no suffix) a folder of PNG frames; whole or not at all."""
        from ..media.saving import save_clip

        return save_clip(self.frames, target, self.fps, self.settings)
