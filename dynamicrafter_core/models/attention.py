"""Scaled dot-product attention, the only place where queries meet keys.

`attend` is what the models call unless they are given another function of the same signature: a host passes its own and
finds in `options` whatever it sent through the model's forward.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

Attend = Callable[..., Tensor]
MOST_ROWS = 65_535  # that CUDA's fused kernels take at once; over frames, a row is a pixel of a branch of a clip


def attend(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, options: Mapping[str, Any] | None = None
) -> Tensor:
    """b l (heads d), b m (heads d), b m (heads d) -> b l (heads d); `mask` l m, of all rows"""
    if q.shape[0] > MOST_ROWS:
        parts = zip(q.split(MOST_ROWS), k.split(MOST_ROWS), v.split(MOST_ROWS), strict=True)
        return torch.cat([attend(*part, heads=heads, mask=mask) for part in parts])
    q, k, v = (rearrange(x, "b l (h d) -> b h l d", h=heads) for x in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), "b h l d -> b l (h d)")


def attend_relative(
    q: Tensor, k: Tensor, v: Tensor, heads: int, key_table: Tensor, value_table: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Self-attention over frames with learned distances (Shaw et al. 2018), VideoCrafter1's text-to-video models.

    The tables hold one vector per distance -reach..reach, shared by the heads. They enter the keys and the values, so the
    probabilities must be at hand: sequences are as short as a clip, and no fused kernel would serve.
    """
    reach = key_table.shape[0] // 2
    index = torch.arange(q.shape[1], device=q.device)
    distance = (index[None, :] - index[:, None]).clamp(-reach, reach) + reach  # i j
    q, k, v = (rearrange(x, "b l (h d) -> b h l d", h=heads) for x in (q, k, v))
    logits = q @ k.transpose(-1, -2) + torch.einsum("bhid,ijd->bhij", q, key_table[distance])
    logits = logits * q.shape[-1] ** -0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    weights = logits.softmax(-1)
    out = weights @ v + torch.einsum("bhij,ijd->bhid", weights, value_table[distance])
    return rearrange(out, "b h l d -> b l (h d)")
