"""The transformers: over the pixels of each frame (with text and image), and over the frames of each pixel."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attend, attend, attend_relative
from .blocks import Block, Signals
from .hooks import AttentionHooks
from .layout import repeat_rows


class GatedLinear(nn.Module):
    """GEGLU (Shazeer 2020)."""

    def __init__(self, width: int, inner: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(width, 2 * inner, **make)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return F.gelu(gate).mul_(value)


class FeedForward(nn.Module):
    def __init__(self, width: int, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        inner = 4 * width
        self.net = nn.Sequential(
            GatedLinear(width, inner, make, operations), nn.Identity(), operations.Linear(inner, width, **make)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class RelativePosition(nn.Module):
    """A vector for each distance between two frames, -reach..reach."""

    def __init__(self, width: int, reach: int, make: dict[str, Any]) -> None:
        super().__init__()
        self.embeddings_table = nn.Parameter(torch.zeros(2 * reach + 1, width, **make))

    def forward(self, like: Tensor) -> Tensor:
        return self.embeddings_table.to(like)


class Attention(nn.Module):
    """Projections around `attend`; `context` is where keys and values come from."""

    place = ""  # its name for hooks; the UNet gives it

    def __init__(
        self,
        width: int,
        inner: int,
        heads: int,
        context: int,
        *,
        make: dict[str, Any],
        operations: Any,
        attention: Attend,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attention = attention
        self.to_q = operations.Linear(width, inner, bias=False, **make)
        self.to_k = operations.Linear(context, inner, bias=False, **make)
        self.to_v = operations.Linear(context, inner, bias=False, **make)
        self.to_out = nn.Sequential(operations.Linear(inner, width, **make), nn.Identity())

    def forward(self, x: Tensor, signals: Signals) -> Tensor:
        hooks = signals.hooks.attentions.get(self.place)
        if hooks is None:
            return self.to_out(self.mix(x, signals))
        out = self.mix_hooked(x, signals, hooks) if hooks.inputs or hooks.compute else self.mix(x, signals)
        out = self.to_out(out)
        for change in hooks.output:
            out = change(out, signals.where(self.place))
        return out

    def mix(self, x: Tensor, signals: Signals) -> Tensor:
        return self.attend(self.to_q(x), self.to_k(x), self.to_v(x), signals)

    def mix_hooked(self, x: Tensor, signals: Signals, hooks: AttentionHooks) -> Tensor:
        return self.attend_hooked(x, x, signals, hooks)[1]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, signals: Signals) -> Tensor:
        return self.attention(q, k, v, self.heads, options=signals.options)

    def attend_hooked(
        self, x: Tensor, context: Tensor, signals: Signals, hooks: AttentionHooks
    ) -> tuple[Tensor, Tensor]:
        """The queries, and what attention (or the hook in its place) made of them."""
        value, where = context, signals.where(self.place)
        for change in hooks.inputs:
            x, context, value = change(x, context, value, where)
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(value)
        return q, hooks.compute(q, k, v, where) if hooks.compute else self.attend(q, k, v, signals)


class DualAttention(Attention):
    """Text and image attended separately by the same queries, and added: F_out = Attn(text) + lambda Attn(image)."""

    def __init__(self, *args: Any, image: bool, learnable: bool, scale: float, make: dict[str, Any], **kwargs: Any):
        super().__init__(*args, make=make, **kwargs)
        self.scale = scale
        if image:
            operations, context, inner = kwargs["operations"], self.to_k.in_features, self.to_k.out_features
            self.to_k_ip = operations.Linear(context, inner, bias=False, **make)
            self.to_v_ip = operations.Linear(context, inner, bias=False, **make)
            if learnable:
                self.alpha = nn.Parameter(torch.zeros((), **make))

    def strength(self, signals: Signals, like: Tensor) -> float | Tensor:
        """lambda, the weight of the image: fixed, or learned as tanh(alpha) + 1."""
        fixed = self.scale * signals.image_strength
        return (self.alpha.to(like).tanh() + 1) * fixed if hasattr(self, "alpha") else fixed

    def mix(self, x: Tensor, signals: Signals) -> Tensor:
        q = self.to_q(x)  # (k b t) (h w) c
        # Text is the same for all frames of a clip: one long query sequence per clip, keys and values once per clip.
        clips = q.reshape(signals.rows, -1, q.shape[-1])
        text = signals.read_text()
        out = self.attend(clips, self.to_k(text), self.to_v(text), signals).view_as(q)
        return self.add_image(q, out, signals)

    def mix_hooked(self, x: Tensor, signals: Signals, hooks: AttentionHooks) -> Tensor:
        text = signals.read_text().repeat_interleave(signals.frames, 0)  # (k b t) l d
        return self.add_image(*self.attend_hooked(x, text, signals, hooks), signals)

    def add_image(self, q: Tensor, out: Tensor, signals: Signals) -> Tensor:
        """The image tokens have keys, values and a softmax of their own beside the text's."""
        if signals.image is None or not hasattr(self, "to_k_ip"):
            return out
        tokens = signals.image.flatten(0, 1)  # (k b t) n d, or (k b) n d
        queries = q if signals.image.shape[1] == signals.frames else q.reshape(signals.rows, -1, q.shape[-1])
        seen = self.attend(queries, self.to_k_ip(tokens), self.to_v_ip(tokens), signals)
        seen = seen.view_as(q) * self.strength(signals, out)
        hooks = signals.hooks.attentions.get(self.place)
        for change in hooks.image if hooks else ():
            seen = change(seen, signals.where(self.place))
        return out + seen


class TemporalAttention(Attention):
    """Self-attention over the frames of one pixel."""

    def __init__(self, *args: Any, reach: int, causal: bool, make: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, make=make, **kwargs)
        self.causal = causal
        if reach:
            width = self.to_k.out_features // self.heads
            self.relative_position_k = RelativePosition(width, reach, make)
            self.relative_position_v = RelativePosition(width, reach, make)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, signals: Signals) -> Tensor:
        hooks = signals.hooks.attentions.get(self.place)
        masks = [*([only_past] if self.causal else ()), *(hooks.masks if hooks else ())]
        mask = torch.stack([make(q, k) for make in masks]).all(0) if masks else None
        if hasattr(self, "relative_position_k"):
            tables = self.relative_position_k(q), self.relative_position_v(q)
            return attend_relative(q, k, v, self.heads, *tables, mask=mask)
        return self.attention(q, k, v, self.heads, mask=mask, options=signals.options)


def only_past(q: Tensor, k: Tensor) -> Tensor:
    """Each frame sees itself and those before it (MagicVideo, Zhou et al. 2022)."""
    return torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).tril()


class TransformerBlock(nn.Module):
    """Self-attention, a second attention, feed-forward; each on its normed input, each added."""

    def __init__(self, width: int, attn1: Attention, attn2: Attention, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        self.attn1 = attn1
        self.ff = FeedForward(width, make, operations)
        self.attn2 = attn2
        self.norm1 = operations.LayerNorm(width, **make)
        self.norm2 = operations.LayerNorm(width, **make)
        self.norm3 = operations.LayerNorm(width, **make)

    def forward(self, x: Tensor, signals: Signals) -> Tensor:
        x = signals.once(self, partial(self._attend_to_itself, x, signals))
        if isinstance(self.attn2, DualAttention):  # here the guidance branches part
            x = repeat_rows(x, signals.rows * signals.frames)
        x = self._add(x, self.attn2, self.norm2, signals)
        return x + self.ff(self.norm3(x))

    def _attend_to_itself(self, x: Tensor, signals: Signals) -> Tensor:
        return self._add(x, self.attn1, self.norm1, signals)

    def _add(self, x: Tensor, attention: Attention, norm: nn.Module, signals: Signals) -> Tensor:
        x = x + attention(norm(x), signals)
        hooks = signals.hooks.attentions.get(attention.place)
        for change in hooks.added if hooks else ():
            x = change(x, signals.where(attention.place))
        return x


class SpatialTransformer(Block):
    """Every frame by itself: its pixels attend to each other, then to text and image."""

    def __init__(
        self,
        channels: int,
        context: int,
        *,
        head_channels: int = 64,
        depth: int = 1,
        image: bool = True,
        learnable: bool = False,
        scale: float = 1.0,
        groups: int = 32,
        dtype: Any = None,
        device: Any = None,
        operations: Any = nn,
        attention: Attend = attend,
    ) -> None:
        super().__init__()
        make = {"dtype": dtype, "device": device}
        heads = channels // head_channels
        parts: dict[str, Any] = {"make": make, "operations": operations}
        self.norm = operations.GroupNorm(groups, channels, eps=1e-6, **make)
        self.proj_in = operations.Linear(channels, channels, **make)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(
                channels,
                Attention(channels, channels, heads, channels, attention=attention, **parts),
                DualAttention(
                    channels,
                    channels,
                    heads,
                    context,
                    image=image,
                    learnable=learnable,
                    scale=scale,
                    attention=attention,
                    **parts,
                ),
                **parts,
            )
            for _ in range(depth)
        )
        self.proj_out = operations.Linear(channels, channels, **make)

    def forward(self, h: Tensor, signals: Signals) -> Tensor:
        tokens = signals.once(self.proj_in, partial(self._tokens, h))  # (b t) (h w) c
        signals = signals.at(h)
        for block in self.transformer_blocks:
            tokens = block(tokens, signals)
        out = self.proj_out(tokens).transpose(1, 2).unflatten(2, h.shape[2:])
        return repeat_rows(h, out.shape[0]) + out

    def _tokens(self, h: Tensor) -> Tensor:
        return self.proj_in(self.norm(h).flatten(2).transpose(1, 2))


class TemporalTransformer(Block):
    """Every pixel by itself: its frames attend to each other, twice."""

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        head_channels: int = 64,
        depth: int = 1,
        linear: bool = True,
        reach: int = 0,
        causal: bool = False,
        groups: int = 32,
        dtype: Any = None,
        device: Any = None,
        operations: Any = nn,
        attention: Attend = attend,
    ) -> None:
        super().__init__()
        make = {"dtype": dtype, "device": device}
        parts: dict[str, Any] = {"make": make, "operations": operations}
        inner = heads * head_channels
        self.norm = operations.GroupNorm(groups, channels, eps=1e-6, **make)
        if linear:
            self.proj_in = operations.Linear(channels, inner, **make)
            self.proj_out = operations.Linear(inner, channels, **make)
        else:
            self.proj_in = operations.Conv1d(channels, inner, 1, **make)
            self.proj_out = operations.Conv1d(inner, channels, 1, **make)
        self.linear = linear
        over_time: dict[str, Any] = {"reach": reach, "causal": causal, "attention": attention, **parts}
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(
                inner,
                TemporalAttention(inner, inner, heads, inner, **over_time),
                TemporalAttention(inner, inner, heads, inner, **over_time),
                **parts,
            )
            for _ in range(depth)
        )

    def project(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A point-wise projection, held as a linear layer or as a convolution of width one."""
        return layer(x) if self.linear else layer(x.transpose(1, 2)).transpose(1, 2)

    def forward(self, h: Tensor, signals: Signals) -> Tensor:
        size = h.shape[2:]
        volume = h.unflatten(0, (-1, signals.frames)).transpose(1, 2)
        tokens = self.norm(volume).flatten(3).permute(0, 3, 2, 1)  # b (h w) t c
        clips, signals = tokens.shape[0], signals.at(h)
        # Contiguous, or a linear layer takes a copy of its weights for every pixel (PyTorch 2.11).
        tokens = self.project(self.proj_in, tokens.flatten(0, 1).contiguous())  # (b h w) t c
        for block in self.transformer_blocks:
            tokens = block(tokens, signals)
        out = self.project(self.proj_out, tokens).unflatten(0, (clips, -1))  # b (h w) t c
        out = out.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, size)  # (b t) c h w
        return h + out
