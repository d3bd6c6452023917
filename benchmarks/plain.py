"""The straightforward ways, kept here only to measure what replaced them."""

import torch
from torch import Tensor

from dynamicrafter_core.devices import free_memory


def einsum_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, **_: object) -> Tensor:
    """Attention with its full score matrix, as the original code computes it where xformers is missing."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def einsum_fits(rows: int, tokens: int, heads: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether there is room for the scores of self-attention, three times over: raw, exponentials, and their ratio."""
    free = free_memory(device)
    return free is None or 3 * rows * heads * tokens**2 * dtype.itemsize < free
