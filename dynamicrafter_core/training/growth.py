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
from ..models.parts import build
from ..models.resblock import ResBlock
from ..models.unet import VideoUNet
from ..models.unet_config import UNetConfig
from ..part_names import PartName
from .initial import initialise, silence_block

# A part's figures that may grow. Everything else would change the shape of what is loaded, or what it does.
GROWING: Mapping[str, tuple[str, ...]] = {
    "unet": ("attention_levels", "init_attention", "res_blocks", "in_channels", "out_channels"),
    "autoencoder": ("res_blocks", "channel_mult", "z_channels", "embed_dim"),
}
# Two figures that say how many channels a latent has.
_CHANNELS: Mapping[str, tuple[str, str]] = {
    "unet": ("in_channels", "out_channels"),
    "autoencoder": ("z_channels", "embed_dim"),
}


def grow(part: PartName, loaded: nn.Module, given: Mapping[str, Any]) -> nn.Module:
    """A new module with the loaded one's weights where it had such; `given` are the figures to change, already checked."""
    config: Any = loaded.config
    check_growing(part, config, given)
    grown = build(replace(config, **given), None, "cpu")
    initialise(part, grown)
    old, new = _by_place(loaded), _by_place(grown)
    more_channels = any(name in given for name in _CHANNELS.get(part, ()))
    if lost := sorted(set(old) - set(new)):
        raise InputError(
            f"The recipe's grown {part} lacks {len(lost)} of the loaded one's tensors, such as {lost[0]}; its figures are "
            f"{ {name: asdict(config)[name] for name in given} }: give them and more."
        )
    for name, tensor in new.items():
        if name in old:
            if more_channels and (halves := _halves(part, name, config)):
                old[name] = _with_more_channels(name, old[name], tensor, halves)
            if tensor.shape != old[name].shape:
                raise InputError(
                    f"The recipe's grown {part} has {name} of shape {list(tensor.shape)}, the loaded one "
                    f"{list(old[name].shape)}; add new levels before the loaded ones, as wide as the first of them."
                )
            tensor.data.copy_(old[name])
    if isinstance(grown, Autoencoder):
        _begin(grown, set(old))
    elif isinstance(grown, VideoUNet):
        _pass_on(grown, set(old))
    return grown


def check_growing(part: PartName, config: Any, given: Mapping[str, Any]) -> None:
    """`config`: the loaded part's."""
    known = GROWING.get(part, ())
    if wrong := [name for name in given if name not in known]:
        growing = "; ".join(f"{part}: {', '.join(names)}" for part, names in GROWING.items())
        raise InputError(
            f"The {wrong[0]} of a loaded {part} cannot grow; these can: {growing}. To train a new {part}, give its "
            "figures in `model`."
        )
    if part not in _CHANNELS:
        return
    first, second = _CHANNELS[part]
    old, new = ({name: figures.get(name, getattr(config, name)) for name in (first, second)} for figures in ({}, given))
    if new[first] * old[second] != new[second] * old[first] or new[first] < old[first]:
        raise InputError(
            f"The recipe's grown {part} has {first} {new[first]} and {second} {new[second]}; let both grow alike, from "
            f"{old[first]} and {old[second]}."
        )


def _halves(part: PartName, name: str, config: Any) -> tuple[int, int] | None:
    """Of a tensor whose shape depends on how many channels a latent has: how many things with such channels lie behind one another
    in its rows and in its columns (a mean and its variance, a UNet's latent and its picture)."""
    if part == "unet":
        layers = {"start.Conv2d.weight": (0, config.in_channels // config.out_channels), "out.2.": (1, 0)}
    else:
        layers = {
            "encoder.conv_out.": (2, 0),
            "quant_conv.": (2, 2),
            "post_quant_conv.": (1, 1),
            "decoder.conv_in.weight": (0, 1),
        }
    return next((halves for layer, halves in layers.items() if name.startswith(layer)), None)


@torch.no_grad()
def _with_more_channels(name: str, old: Tensor, new: Tensor, halves: tuple[int, int]) -> Tensor:
    """The old weights in a tensor for latents of more channels, which come after the old ones in each half.

    An encoder's new channels are as its initialisation has them; what reads them begins with zeros, and what a UNet says of
    them does too.
    """
    shape = [each if half else held for each, held, half in zip(new.shape, old.shape, (*halves, 0, 0), strict=False)]
    said = name.startswith(("encoder", "quant"))
    kept = new.clone() if said else old.new_zeros(shape)
    if name == "post_quant_conv.weight":
        nn.init.dirac_(kept)  # it hands them on, or nothing behind it would ever learn to read them
    rows = _places_of(old.shape[0], kept.shape[0], halves[0] or 1)
    if old.ndim == 1:
        kept[rows] = old.to(kept)
        return kept
    if name == "quant_conv.weight":
        kept[rows] = 0  # an old channel is said without the new ones
    kept[rows[:, None], _places_of(old.shape[1], kept.shape[1], halves[1] or 1)] = old.to(kept)
    return kept


def _places_of(old: int, new: int, halves: int) -> Tensor:
    """Where the old channels lie among the new ones: at the beginning of each half."""
    return torch.cat([torch.arange(old // halves) + half * (new // halves) for half in range(halves)])


@torch.no_grad()
def _pass_on(unet: VideoUNet, old: set[str]) -> None:
    """New residual blocks give what came before them, and nothing of the skip that they take."""
    place = dict(_places(unet))
    for name, layer in unet.named_modules():
        skip = f"{name}.skip_connection"
        if isinstance(layer, ResBlock) and f"{_renamed(skip, place)}.weight" not in old:
            for parameter in layer.skip_connection.parameters():
                parameter.zero_()
                if parameter.ndim > 1:
                    nn.init.dirac_(parameter)


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

    Of a UNet, each stage as below, and each layer of a stage by its kind: a stage has one of each, but for the middle's two. Of an
    autoencoder, each level by how far it is from the latents.
    """
    if isinstance(module, VideoUNet):
        for name, place in _stages(module.config):
            for index, layer in enumerate(module.get_submodule(name).children()):
                yield f"{name}.{index}.", f"{place}.{type(layer).__name__}."
    elif isinstance(module, Autoencoder):
        levels = len(module.config.channel_mult)
        for name in ("encoder.down", "decoder.up"):
            yield from ((f"{name}.{level}.", f"{name}.from latents {levels - level}.") for level in range(levels))


def _stages(config: UNetConfig) -> Iterator[tuple[str, str]]:
    """A UNet's stages by level and part. On the way up, the first takes what comes from the level below, the others a skip of their own.

    A new one on the way down comes last in its level, where its skip, at first a copy of the one before, goes to the first on the way up.
    """
    blocks, levels = config.res_blocks, len(config.channel_mult)
    yield "input_blocks.0", "start"
    if config.init_attention:
        yield "init_attn", "start attention"
    for level in range(levels):
        first = level * (blocks + 1)
        yield from ((f"input_blocks.{1 + first + index}", f"down {level} block {index}") for index in range(blocks))
        if level + 1 < levels:
            yield f"input_blocks.{1 + first + blocks}", f"down {level} end"
        first = (levels - 1 - level) * (blocks + 1)
        yield f"output_blocks.{first}", f"up {level} start"
        yield from (
            (f"output_blocks.{first + index}", f"up {level} block {blocks - 1 - index}") for index in range(1, blocks)
        )
        yield f"output_blocks.{first + blocks}", f"up {level} end"


def _renamed(name: str, moved: Mapping[str, str]) -> str:
    before = next((before for before in moved if name.startswith(before)), "")
    return moved[before] + name.removeprefix(before) if before else name
