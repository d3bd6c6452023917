"""A loaded part with more layers: what is new begins silent, so that the grown part does at first exactly what the loaded one does.

A small model that has learned much need not begin again to have attention where it had none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..models.blocks import Stage
from ..models.parts import build
from ..models.unet import VideoUNet
from ..part_names import PartName
from .initial import initialise, silence_block

# A part's figures that may grow. Everything else would change the shape of what is loaded, or what it does.
GROWING: Mapping[str, tuple[str, ...]] = {
    "unet": ("attention_levels", "init_attention"),
    "autoencoder": ("res_blocks",),
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
            tensor.data.copy_(old[name])
    if part == "autoencoder":
        for name, block in grown.named_modules():
            if hasattr(block, "conv2") and f"{name}.conv2.weight" not in old:
                silence_block(block)
    return grown


def _by_place(module: nn.Module) -> dict[str, Tensor]:
    """Every tensor by a name that growth does not change: in a UNet, layers are numbered within a stage, and attention moves what
    follows it."""
    state = module.state_dict()
    if not isinstance(module, VideoUNet):
        return state
    moved = dict(_kinds(module))
    return {_renamed(name, moved): tensor for name, tensor in state.items()}


def _kinds(unet: VideoUNet) -> Iterator[tuple[str, str]]:
    """For each layer of a stage, its number replaced by its kind: a stage has one of each, but for the middle's two."""
    for name, stage in unet.named_modules():
        if isinstance(stage, Stage) and name != "middle_block":
            yield from ((f"{name}.{index}.", f"{name}.{type(layer).__name__}.") for index, layer in enumerate(stage))


def _renamed(name: str, moved: Mapping[str, str]) -> str:
    before = next((before for before in moved if name.startswith(before)), "")
    return moved[before] + name.removeprefix(before) if before else name
