"""A loaded part with more layers: what is new begins silent, so that the grown part does at first exactly what the loaded one does.

A small model that has learned much need not begin again to have attention where it had none. One thing is not silent: an
autoencoder with one more level, for pictures of twice the size. It begins near what the loaded one does with them at half the size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.autoencoder import Autoencoder, Downsample, Upsample
from ..models.blocks import Stage
from ..models.parts import build
from ..models.unet import VideoUNet
from ..part_names import PartName
from .initial import initialise, silence_block

# A part's figures that may grow. Everything else would change the shape of what is loaded, or what it does.
GROWING: Mapping[str, tuple[str, ...]] = {
    "unet": ("attention_levels", "init_attention"),
    "autoencoder": ("res_blocks", "channel_mult"),
}


def grow(part: PartName, loaded: nn.Module, given: Mapping[str, Any]) -> nn.Module:
    """A new module with the loaded one's weights where it had such; `given` are the figures to change, already checked."""
    known = GROWING.get(part, ())
    if wrong := [name for name in given if name not in known]:
        growing = "; ".join(f"{part}: {', '.join(names)}" for part, names in GROWING.items())
        raise InputError(
            f"The {wrong[0]} of a loaded {part} cannot grow; these can: {growing}. To train a new {part}, give its "
            "figures in `model`."
        )
    config: Any = loaded.config
    grown = build(replace(config, **given), None, "cpu")
    initialise(part, grown)
    old, new = _by_place(loaded), _by_place(grown)
    if lost := sorted(set(old) - set(new)):
        raise InputError(
            f"The recipe's grown {part} lacks {len(lost)} of the loaded one's tensors, such as {lost[0]}; its figures are "
            f"{ {name: asdict(config)[name] for name in given} }: give them and more."
        )
    for name, tensor in new.items():
        if name in old:
            if tensor.shape != old[name].shape:
                raise InputError(
                    f"The recipe's grown {part} has {name} of shape {list(tensor.shape)}, the loaded one "
                    f"{list(old[name].shape)}; add new levels before the loaded ones, as wide as the first of them."
                )
            tensor.data.copy_(old[name])
    if isinstance(grown, Autoencoder):
        _begin(grown, set(old))
    return grown


@torch.no_grad()
def _begin(autoencoder: Autoencoder, old: set[str]) -> None:
    """New residual blocks give what they get; new levels halve and double by plain means and copies."""
    place = dict(_places(autoencoder))
    for name, layer in autoencoder.named_modules():
        at = _renamed(f"{name}.", place)
        if hasattr(layer, "conv2") and f"{at}conv2.weight" not in old:
            silence_block(layer)
        if isinstance(layer, Downsample | Upsample) and f"{at}conv.weight" not in old:
            weight, bias = layer.conv.weight, layer.conv.bias
            weight.zero_()
            bias.zero_()
            for channel in range(len(weight)):
                if isinstance(layer, Downsample):
                    weight[channel, channel, :2, :2] = 0.25
                else:
                    weight[channel, channel, 1, 1] = 1.0


def _by_place(module: nn.Module) -> dict[str, Tensor]:
    """Every tensor by a name that growth does not change."""
    moved = dict(_places(module))
    return {_renamed(name, moved): tensor for name, tensor in module.state_dict().items()}


def _places(module: nn.Module) -> Iterator[tuple[str, str]]:
    """What growth would number anew, by what it does not change.

    Of a UNet, each layer of a stage by its kind: a stage has one of each, but for the middle's two. Of an autoencoder, each level by
    how far it is from the latents.
    """
    if isinstance(module, VideoUNet):
        for name, stage in module.named_modules():
            if isinstance(stage, Stage) and name != "middle_block":
                yield from (
                    (f"{name}.{index}.", f"{name}.{type(layer).__name__}.") for index, layer in enumerate(stage)
                )
    elif isinstance(module, Autoencoder):
        levels = len(module.config.channel_mult)
        for name in ("encoder.down", "decoder.up"):
            yield from ((f"{name}.{level}.", f"{name}.from latents {levels - level}.") for level in range(levels))


def _renamed(name: str, moved: Mapping[str, str]) -> str:
    before = next((before for before in moved if name.startswith(before)), "")
    return moved[before] + name.removeprefix(before) if before else name
