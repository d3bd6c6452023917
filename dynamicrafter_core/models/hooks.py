"""Hooks: the one way to reach into the UNet while it runs.

A place is a name in the order of the state dict: `input 4`, `middle`, `output 7`, and inside a block
`output 7 spatial 0 attn1` (the first attention of block 0 of its spatial transformer; `init temporal 0 attn1` is the
transformer that some models have after the first convolution). `VideoUNet.places` lists them all.

    maps = []

    def capture(q, k, v, where):  # [rows, tokens, heads * 64]
        q, k, v = (x.unflatten(-1, (-1, 64)).transpose(1, 2) for x in (q, k, v))
        maps.append((q @ k.transpose(-1, -2) / 8).softmax(-1))  # rows heads tokens tokens
        return (maps[-1] @ v).transpose(1, 2).flatten(2)

    hooks = Hooks(
        blocks={"output 3": BlockHooks(after=(lambda h, where: 1.2 * h,))},
        attentions={"middle spatial 0 attn1": AttentionHooks(compute=capture)},
    )
    unet(x, timesteps, text, image, hooks=hooks)

Several hooks at one point run in the order in which they stand; each gets what the one before it returned. With an empty
record the network computes exactly what it computes without one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import InputError
from .layout import repeat_rows


@dataclass(frozen=True)
class Where:
    """What a hook gets besides its tensors."""

    place: str
    frames: int  # of one clip: rows are clips * frames
    shape: tuple[int, ...]  # of the activations, [rows, channels, height, width], at the block or at its transformer


ChangeStream = Callable[[Tensor, Where], Tensor]
ChangeSkip = Callable[[Tensor, Tensor, Where], tuple[Tensor, Tensor]]
ChangeInputs = Callable[[Tensor, Tensor, Tensor, Where], tuple[Tensor, Tensor, Tensor]]
Compute = Callable[[Tensor, Tensor, Tensor, Where], Tensor]
MakeMask = Callable[[Tensor, Tensor], Tensor]
Around = Callable[[Callable[[], Tensor], Where], Tensor]


@dataclass(frozen=True)
class BlockHooks:
    """Hooks of a block; the stream is [rows, channels, height, width]."""

    before: tuple[ChangeSkip, ...] = ()  # output blocks: the stream and the skip, before they are joined
    after: tuple[ChangeStream, ...] = ()  # what the block returns; an input block's skip holds this too
    after_skip: tuple[ChangeStream, ...] = ()  # input blocks: the same, where the skip keeps what was before


@dataclass(frozen=True)
class AttentionHooks:
    """Hooks of one attention, in the order in which they run; tokens are [rows, tokens, channels].

    A spatial attention has one row a frame, and the text is repeated for each; a temporal one has one row a pixel.
    """

    inputs: tuple[ChangeInputs, ...] = ()  # before the projections: what makes queries, keys and values
    compute: Compute | None = None  # in place of attention: projected queries, keys and values -> the mixed values
    image: tuple[
        ChangeStream, ...
    ] = ()  # spatial attn2: what the image's tokens add to the text's values, weighed by lambda
    output: tuple[ChangeStream, ...] = ()  # after the output projection, before it is added
    added: tuple[ChangeStream, ...] = ()  # the stream after the addition
    masks: tuple[MakeMask, ...] = ()  # temporal: of projected queries and keys, True where a frame may see another

    def __post_init__(self) -> None:
        if self.compute and self.masks:
            raise InputError(
                "One feature replaces temporal attention and another limits what it sees, and only one can: switch one of them off."
            )


@dataclass(frozen=True)
class InnerHook:
    """Stands around the inner part of the network: the blocks between an output block and the one that its skip comes from.

    It gives the stream that enters the output block, [rows, channels, height, width], computed by the function that it gets, or
    known from elsewhere; hooks inside are then not called. `where.shape` is that of the skip.
    """

    place: str  # of the output block
    around: Around


Record = TypeVar("Record", BlockHooks, AttentionHooks)


@dataclass(frozen=True)
class Hooks:
    blocks: Mapping[str, BlockHooks] = field(default_factory=dict)
    attentions: Mapping[str, AttentionHooks] = field(default_factory=dict)
    inner: InnerHook | None = None

    def __bool__(self) -> bool:
        return bool(self.blocks or self.attentions or self.inner)

    @property
    def before_branches_part(self) -> bool:
        """Whether a hook sees the stream where guidance branches could still share it."""
        return bool(self.attentions) or any(place.startswith("input") for place in self.blocks)

    def check(self, places: frozenset[str]) -> None:
        unknown = sorted({*self.blocks, *self.attentions} - places)
        if unknown:
            raise InputError(
                f"This UNet has no place called {unknown[0]!r}: its `places` lists them all, among them 'input 0', "
                "'middle' and 'middle spatial 0 attn1'."
            )
        if self.inner is not None and (self.inner.place not in places or not self.inner.place.startswith("output")):
            raise InputError(
                f"The inner part of the UNet cannot end at {self.inner.place!r}: give an output block, such as 'output 0'."
            )
        unused = [
            place for place in self.blocks if "attn" in place or place.partition(" ")[0] not in _kinds(self, place)
        ]
        unused += [
            place
            for place, record in self.attentions.items()
            if "attn" not in place or (record.masks and " temporal " not in place)
        ]
        if unused:
            raise InputError(
                f"A hook at {unused[0]!r} would never be called: attentions take AttentionHooks, blocks take BlockHooks, "
                "and of these `before` belongs to output blocks and `after_skip` to input blocks; `masks` are for temporal attentions."
            )

    def then(self, other: "Hooks") -> "Hooks":
        """Both records in one: at each point first the hooks of this one, then those of `other`."""
        if not (self and other):
            return self or other
        if self.inner and other.inner:
            raise InputError(
                "Two features leave out the inner part of the UNet, and only one can: switch one of them off."
            )
        inner = self.inner or other.inner
        return Hooks(_merge(self.blocks, other.blocks), _merge(self.attentions, other.attentions), inner)

    def change_skip(self, place: str, h: Tensor, skip: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        if place in self.blocks:
            for hook in self.blocks[place].before:
                h, skip = hook(h, skip, Where(place, frames, tuple(h.shape)))
        return h, skip

    def after(self, place: str, h: Tensor, frames: int) -> Tensor:
        return _chain(self.blocks[place].after, h, place, frames) if place in self.blocks else h

    def after_skip(self, place: str, h: Tensor, frames: int) -> Tensor:
        return _chain(self.blocks[place].after_skip, h, place, frames) if place in self.blocks else h

    def around_inner(self, compute: Callable[[], Tensor], shape: torch.Size, frames: int) -> Tensor:
        if self.inner is None:
            return compute()
        return self.inner.around(compute, Where(self.inner.place, frames, tuple(shape)))


NO_HOOKS = Hooks()


def _kinds(hooks: Hooks, place: str) -> set[str]:
    """The kinds of block that have all the points that are hooked there."""
    record, kinds = hooks.blocks[place], {"input", "middle", "output"}
    if record.before:
        kinds &= {"output"}
    if record.after_skip:
        kinds &= {"input"}
    return kinds


def control_hooks(skips: Sequence[Tensor], middle: Tensor) -> Hooks:
    """A control network's residuals: one for each skip, and one for the middle block. One branch's serve all branches."""

    def add_to_skip(residual: Tensor) -> ChangeSkip:
        return lambda h, skip, where: (h, skip + repeat_rows(residual, len(skip)))

    blocks = {
        f"output {len(skips) - 1 - index}": BlockHooks(before=(add_to_skip(skip),)) for index, skip in enumerate(skips)
    }
    return Hooks({**blocks, "middle": BlockHooks(after=(lambda h, where: h + repeat_rows(middle, len(h)),))})


def _chain(hooks: tuple[ChangeStream, ...], h: Tensor, place: str, frames: int) -> Tensor:
    for hook in hooks:
        h = hook(h, Where(place, frames, tuple(h.shape)))
    return h


def _merge(first: Mapping[str, Record], second: Mapping[str, Record]) -> dict[str, Record]:
    merged = {**first, **second}
    for place in first.keys() & second.keys():
        merged[place] = _join(place, first[place], second[place])
    return merged


def _join(place: str, first: Record, second: Record) -> Record:
    joined = {}
    for point in fields(first):
        one, other = getattr(first, point.name), getattr(second, point.name)
        if point.name != "compute":
            joined[point.name] = one + other
        elif one and other:
            raise InputError(
                f"Two features replace the attention at {place!r}, and only one can: switch one of them off there."
            )
        else:
            joined[point.name] = one or other
    return replace(first, **joined)
