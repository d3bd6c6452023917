"""The host's MODEL patches (`transformer_options`) as hooks of the core's UNet.

A patch finds the values that the host's own UNet writes for it: block, block_index, transformer_index, n_heads, dim_head,
attn_precision, original_shape and activations_shape, beside what the sampler wrote (cond_or_uncond, sigmas, ...). Patches
apply to the spatial transformers, which are Stable Diffusion 2's; none of the host's patches knows of the temporal ones.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.models.hooks import NO_HOOKS, AttentionHooks, BlockHooks, Hooks, Where
from ...dynamicrafter_core.models.transformers import Attention
from ...dynamicrafter_core.models.unet import VideoUNet
from .motion_hooks import motion_hooks

Options = dict[str, Any]

PATCHES = (
    "input_block_patch",
    "input_block_patch_after_skip",
    "output_block_patch",
    "attn1_patch",
    "attn1_output_patch",
    "middle_patch",
    "attn2_patch",
    "attn2_output_patch",
)
REPLACEMENTS = ("attn1", "attn2")

# Options for other kinds of model, which would change nothing here: what sets them, and what they need.
FOREIGN = {
    "ar_config": ("ARVideoI2V", "an autoregressive model"),
    "chroma_radiance_options": ("ChromaRadianceOptions", "Chroma Radiance"),
    "rope_options": ("ScaleROPE", "a model with rotary positions"),
}


def hooks_from(options: Mapping[str, Any], unet: VideoUNet, shape: torch.Size, timesteps: Tensor) -> Hooks:
    """`shape` is that of the rows the host gave the UNet, concatenated latents included.

    This pack's own come first: patches of the host may cut the rows.
    """
    return motion_hooks(options, unet, timesteps).then(_patch_hooks(options, unet, shape))


def _patch_hooks(options: Mapping[str, Any], unet: VideoUNet, shape: torch.Size) -> Hooks:
    patches = {name: value for name, value in options.get("patches", {}).items() if value}
    replacements = {name: value for name, value in options.get("patches_replace", {}).items() if value}
    for name, (node, wanted) in FOREIGN.items():
        if (
            name not in options
        ):  # by name: torch.compile would look at the whole of options, and at the number of steps in it
            continue
        raise InputError(f"{node} is for {wanted}, and does nothing for this video UNet: remove it.")
    _refuse_unknown(patches, PATCHES)
    _refuse_unknown(replacements, REPLACEMENTS)
    if not (patches or replacements):
        return NO_HOOKS
    live: Options = {**options, "original_shape": list(shape), "transformer_index": 0}
    blocks: dict[str, BlockHooks] = {}
    attentions: dict[str, AttentionHooks] = {}
    for number, place in enumerate(_spatial_places(unet)):
        reader = _Reader(live, place, number)
        for which in REPLACEMENTS:
            made = _attention_hooks(which, patches, replacements.get(which, {}), reader)
            if made != AttentionHooks():
                attentions[f"{place.name} {which}"] = made
    for name in unet.places:
        if len(name.split()) <= 2:
            made = _block_hooks(name, patches, live)
            if made != BlockHooks():
                blocks[name] = made
    return Hooks(blocks, attentions)


def _refuse_unknown(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in given.keys() - set(known):
        raise InputError(
            f"A node on this MODEL patches {name!r}, which the video UNet does not have (it has {', '.join(known)}): "
            "remove that node; it was made for another kind of model."
        )


class _SpatialBlock:
    """One block of a spatial transformer, by the names of the core and of the host."""

    def __init__(self, name: str, attention: Attention) -> None:
        words = name.split()  # "input 4 spatial 0", or "middle spatial 0"
        self.name = name
        self.index = int(words[-1])
        self.block = (words[0], int(words[1]) if len(words) == 4 else 0)
        self.heads = attention.heads
        self.head_channels = attention.to_q.out_features // attention.heads


def _spatial_places(unet: VideoUNet) -> Iterator[_SpatialBlock]:
    """In the order in which the network runs through them."""
    for layer in unet.modules():
        if isinstance(layer, Attention) and layer.place.endswith("attn1") and " spatial " in layer.place:
            yield _SpatialBlock(layer.place.removesuffix(" attn1"), layer)


class _Reader:
    """What the patches of one transformer block read and may write to; the host makes a new one for each block."""

    def __init__(self, live: Options, place: _SpatialBlock, number: int) -> None:
        self.live, self.place, self.number = live, place, number
        self.options: Options = {}

    def __call__(self, where: Where) -> Options:
        if not self.options:
            self.live.update(
                block=self.place.block,
                block_index=self.place.index,
                transformer_index=self.number,
                activations_shape=list(where.shape),
            )
            kept = {key: value for key, value in self.live.items() if key not in ("patches", "patches_replace")}
            heads = {"n_heads": self.place.heads, "dim_head": self.place.head_channels}
            self.options = {**kept, **heads, "attn_precision": torch.float32}
        return self.options


def _attention_hooks(
    which: str, patches: Mapping[str, list], replacements: Mapping[Any, Callable], reader: _Reader
) -> AttentionHooks:
    def inputs(patch: Callable) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        return lambda x, context, value, where: patch(x, context, value, reader(where))

    def stream(patch: Callable) -> Callable[..., Tensor]:
        return lambda x, where: patch(x, reader(where))

    place = reader.place
    replacement = replacements.get((*place.block, place.index), replacements.get(place.block))
    return AttentionHooks(
        inputs=tuple(map(inputs, patches.get(f"{which}_patch", ()))),
        # One that gives back the values themselves (PAG) would give the first frame's too, where they stand beside.
        compute=replacement and (lambda q, k, v, where: replacement(q, k, v, reader(where))[:, : q.shape[1]]),
        output=tuple(map(stream, patches.get(f"{which}_output_patch", ()))),
        added=tuple(map(stream, patches.get("middle_patch", ()))) if which == "attn1" else (),
    )


def _block_hooks(name: str, patches: Mapping[str, list], live: Options) -> BlockHooks:
    kind, _, number = name.partition(" ")

    def options() -> Options:
        live["block"] = (kind, int(number))
        return live

    def stream(patch: Callable) -> Callable[[Tensor, Where], Tensor]:
        return lambda h, where: patch(h, options())

    def skip(patch: Callable) -> Callable[[Tensor, Tensor, Where], tuple[Tensor, Tensor]]:
        return lambda h, skip, where: patch(h, skip, options())

    if kind == "output":
        return BlockHooks(before=tuple(map(skip, patches.get("output_block_patch", ()))))
    if kind == "input":
        return BlockHooks(
            after=tuple(map(stream, patches.get("input_block_patch", ()))),
            after_skip=tuple(map(stream, patches.get("input_block_patch_after_skip", ()))),
        )
    return BlockHooks()
