"""Frames in portions that fit the memory: the same numbers as all at once, in less room."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

OutOfMemory: type[RuntimeError] = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


def in_chunks(run: Callable[[Tensor], Any], frames: Tensor, chunk: int | None = None) -> Any:
    """`run(frames)` in portions of at most `chunk` frames (None: all at once), joined along the first axis.

    `run` returns a tensor or a tuple of tensors, and treats every frame by itself. When a portion does not fit, what is left
    is tried in portions of half the size, down to a single frame; then the device's own error is raised.
    """
    total = frames.shape[0]
    size = max(1, min(chunk or total, total))
    joined: list[Tensor] = []
    start = 0
    while start < total:
        part = _attempt(run, frames[start : start + size], last=size == 1)
        if part is None:
            size = (size + 1) // 2
            continue
        if size >= total:
            return part
        single = isinstance(part, Tensor)
        parts = (part,) if single else part
        if not joined:  # filled in place: a list joined at the end would need the room twice
            joined = [_like(tensor, total) for tensor in parts]
        for whole, tensor in zip(joined, parts, strict=True):
            whole[start : start + tensor.shape[0]] = tensor
        start += size
    return joined[0] if single else tuple(joined)


def _attempt(run: Callable[[Tensor], Any], frames: Tensor, last: bool) -> Any:
    """None where memory ran out. Returning, and not retrying inside `except`, lets go of what the attempt had allocated."""
    try:
        return run(frames)
    except RuntimeError as error:
        if last or not (isinstance(error, OutOfMemory) or "out of memory" in str(error)):  # MPS has no type of its own
            raise
        return None


def _like(tensor: Tensor, total: int) -> Tensor:
    """Room for `total` frames in the layout of `tensor`, which holds a few."""
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((total, *tensor.shape[1:]), dtype=tensor.dtype, device=tensor.device, memory_format=layout)
