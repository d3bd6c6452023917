"""Clips joined into one, frame by frame: only the frames that a dissolve may still need are held back."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Frames = TypeVar("Frames", bound=Iterable[Tensor])

SAME = 0.5  # of the usual step between frames: below this, two frames show the same moment


def joined(clips: Iterable[tuple[Iterable[Tensor], int]], longest: int) -> Iterator[Tensor]:
    """The frames [H,W,3] of clips, each with the number of its frames that dissolve from the clip before, at most `longest`."""
    held: deque[Tensor] = deque()
    leaving: deque[Tensor] = deque()
    span = 0
    for frames, dissolve in clips:
        if dissolve:
            span = min(dissolve, len(held))
            leaving = deque(held.pop() for _ in range(span))
        for frame in frames:
            if leaving:
                share = (span - len(leaving) + 1) / (span + 1)
                frame = mixed(leaving.pop(), frame, share)
            held.append(frame)
            while len(held) > longest:
                yield held.popleft()
    yield from held


def mixed(before: Tensor, after: Tensor, share: float) -> Tensor:
    """`share` of the second picture over the first, as whole numbers where they are."""
    value = before.float() + share * (after.float() - before.float())
    return value.to(after.dtype) if after.is_floating_point() else value.round().to(after.dtype)


def repeats(before: Tensor, after: Tensor) -> bool:
    """Whether a clip [T,H,W,3] begins with the frame that the one before it ends with."""
    steps = [(clip[1:].float() - clip[:-1].float()).abs().mean((1, 2, 3)) for clip in (before, after) if len(clip) > 1]
    usual = float(torch.cat(steps).mean()) if steps else 0.0
    return float((after[0].float() - before[-1].float()).abs().mean()) <= SAME * usual
