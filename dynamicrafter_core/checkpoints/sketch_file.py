"""ToonCrafter's sketch encoder out of its file: checked to the last key before a weight is read."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ..models.attention import Attend, attend
from ..models.sketch import SketchEncoder, SketchEncoderConfig
from ..models.unet_config import UNetConfig
from .detection import read_own_metadata
from .other_models import name_other_model
from .reading import Opened, open_file

PUBLISHED = "Doubiiu/ToonCrafter (sketch_encoder.ckpt) or Kijai/DynamiCrafter_pruned (sketch_encoder-fp16.safetensors)"
_MARK = "input_hint_block.0.weight"


@dataclass(frozen=True)
class SketchFile:
    opened: Opened
    prefix: str  # of its keys in the file
    config: SketchEncoderConfig

    @property
    def dtype(self) -> torch.dtype:
        return self.opened.dtypes[self.prefix + _MARK]

    def check_fits(self, unet: UNetConfig, cell: int) -> None:
        """Its residuals are added to a UNet's skips, so that both have the same widths; `cell`: pixels a side of a latent pixel."""
        own = self.config.unet
        if self.config.hint_factor != cell:
            raise InputError(
                f"the sketch encoder {self.opened.path} reads {self.config.hint_factor} pixels of a drawing for each "
                f"latent pixel, and the model's autoencoder makes {cell} from it; give one made for this model."
            )
        for name, words in (
            ("model_channels", "channels"),
            ("channel_mult", "widths"),
            ("res_blocks", "blocks a level"),
            ("context_dim", "values a text token"),
        ):
            one, other = getattr(own, name), getattr(unet, name)
            if one != other:
                raise InputError(
                    f"the sketch encoder {self.opened.path} has {words} {one} and the model's UNet {other}; give one "
                    "of the same size; ToonCrafter's fits all released models."
                )

    def load(
        self,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        operations: Any = nn,
        attention: Attend = attend,
    ) -> SketchEncoder:
        """For inference. Without a dtype it keeps the file's."""
        module = SketchEncoder(self.config, dtype, "meta", operations, attention).requires_grad_(False)
        tensors = {key: self.opened.tensors[self.prefix + key] for key in module.state_dict()}
        state = {key: value.to(device=device, dtype=dtype or value.dtype) for key, value in tensors.items()}
        module.load_state_dict(state, assign=True)
        return module.eval()


def open_sketch_encoder(path: str | os.PathLike[str]) -> SketchFile:
    """Reads the file's table of contents alone."""
    opened = open_file(path)
    mark = next((key for key in opened.shapes if key.endswith(_MARK)), None)
    if mark is None:
        raise InputError(
            f"{path} is {name_other_model(opened.shapes)}, not ToonCrafter's sketch encoder, which is published on the Hugging Face "
            f"hub as {PUBLISHED}."
        )
    prefix = mark.removesuffix(_MARK)
    shapes = {key.removeprefix(prefix): shape for key, shape in opened.shapes.items() if key.startswith(prefix)}
    stated = read_own_metadata(opened.metadata).get("sketch", {})
    stated = stated if isinstance(stated, dict) else {}
    known = {key: stated[key] for key in ("head_channels", "norm_groups") if isinstance(stated.get(key), int)}
    config = SketchEncoderConfig.from_shapes(shapes, **known)
    wanted = {key: tuple(value.shape) for key, value in SketchEncoder(config, device="meta").state_dict().items()}
    wrong = sorted(key for key in {*wanted, *shapes} if wanted.get(key) != shapes.get(key))
    if wrong:
        found, right = shapes.get(wrong[0]), wanted.get(wrong[0])
        raise InputError(
            f"{path} is a ControlNet, but not ToonCrafter's sketch encoder: {wrong[0]} is {_shape(found)} and should be "
            f"{_shape(right)}; ComfyUI's own ControlNet nodes take other ControlNets of Stable Diffusion 2.1."
        )
    if config.hint_channels != 1:
        raise InputError(
            f"{path} is a ControlNet that reads {config.hint_channels} channels, and ToonCrafter's sketch encoder reads one; ComfyUI's own "
            "ControlNet nodes take ControlNets of Stable Diffusion 2.1."
        )
    return SketchFile(opened, prefix, config)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))
