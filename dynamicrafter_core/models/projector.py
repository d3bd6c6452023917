"""The query transformer: CLIP's image tokens become context tokens beside the text's, for each frame its own.

Learned queries attend to the image tokens and to themselves (a Perceiver resampler); DynamiCrafter has 16 queries a frame,
VideoCrafter1's image-to-video model 16 for the whole clip.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..errors import InputError
from .attention import attend


@dataclass(frozen=True)
class ProjectorConfig:
    dim: int = 1024
    depth: int = 4
    head_channels: int = 64
    heads: int = 12
    queries: int = 16
    embedding_dim: int = 1280
    output_dim: int = 1024
    ff_mult: int = 4
    frames: int | None = 16  # None: one set of tokens for all frames

    @classmethod
    def from_reference(cls, config: Mapping[str, Any]) -> "ProjectorConfig":
        """From the names the released YAML configs use."""
        names = {"dim_head": "head_channels", "num_queries": "queries", "video_length": "frames"}
        figures = {names.get(name, name): value for name, value in config.items()}
        return cls(**{"frames": None, **figures})

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]], **known: Any) -> "ProjectorConfig":
        """From a state dict's keys and shapes; `known` gives what shapes cannot show (head width, queries a frame)."""
        figures = {**_infer(shapes), **known}
        total = shapes["latents"][1]
        head_channels = figures.setdefault("head_channels", cls.head_channels)
        figures["heads"] = shapes["layers.0.0.to_q.weight"][0] // head_channels
        if "frames" not in known:  # released models use 16 tokens a frame, or 16 in all
            queries = figures.get("queries", cls.queries)
            figures["frames"] = None if total == queries else total // queries
        figures["queries"] = total // (figures["frames"] or 1)
        return cls(**figures)


def _infer(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    try:
        dim, embedding_dim = shapes["proj_in.weight"]
        return {
            "dim": dim,
            "depth": sum(f"layers.{index}.0.to_q.weight" in shapes for index in range(64)),
            "embedding_dim": embedding_dim,
            "output_dim": shapes["proj_out.weight"][0],
            "ff_mult": shapes["layers.0.1.1.weight"][0] // dim,
        }
    except KeyError as error:
        raise InputError(f"These {len(shapes)} tensors are not an image projector: {error} is missing.") from error


class ResamplerAttention(nn.Module):
    """Queries look at the image tokens and at themselves."""

    def __init__(self, config: ProjectorConfig, make: dict[str, Any], operations: Any) -> None:
        super().__init__()
        self.heads = config.heads
        inner = config.heads * config.head_channels
        self.norm1 = operations.LayerNorm(config.dim, **make)
        self.norm2 = operations.LayerNorm(config.dim, **make)
        self.to_q = operations.Linear(config.dim, inner, bias=False, **make)
        self.to_kv = operations.Linear(config.dim, 2 * inner, bias=False, **make)
        self.to_out = operations.Linear(inner, config.dim, bias=False, **make)

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        k, v = self.to_kv(torch.cat([self.norm1(tokens), latents], dim=1)).chunk(2, dim=-1)
        return self.to_out(attend(self.to_q(latents), k, v, self.heads))


class ResamplerLayer(nn.ModuleList):
    """Attention, then a feed-forward network; numbered 0 and 1 in the released state dicts."""

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        latents = self[0](tokens, latents) + latents
        return self[1](latents) + latents


class Projector(nn.Module):
    def __init__(
        self,
        config: ProjectorConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = nn,
    ) -> None:
        super().__init__()
        self.config = config
        make: dict[str, Any] = {"dtype": dtype, "device": device}
        dim, wide = config.dim, config.dim * config.ff_mult

        def feed_forward() -> nn.Sequential:
            first = operations.Linear(dim, wide, bias=False, **make)
            return nn.Sequential(
                operations.LayerNorm(dim, **make), first, nn.GELU(), operations.Linear(wide, dim, bias=False, **make)
            )

        queries = config.queries * (config.frames or 1)
        self.latents = nn.Parameter(torch.randn(1, queries, dim, **make) / dim**0.5)
        self.proj_in = operations.Linear(config.embedding_dim, dim, **make)
        self.proj_out = operations.Linear(dim, config.output_dim, **make)
        self.norm_out = operations.LayerNorm(config.output_dim, **make)
        self.layers = nn.ModuleList(
            ResamplerLayer([ResamplerAttention(config, make, operations), feed_forward()]) for _ in range(config.depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Image tokens [B,K,E] -> context tokens [B,T,N,D], T = 1 where all frames share them."""
        if tokens.ndim != 3 or tokens.shape[2] != self.config.embedding_dim:
            raise InputError(
                f"Image tokens of shape {list(tokens.shape)} do not fit this projector, which reads [batch, tokens, "
                f"{self.config.embedding_dim}]: were they made by another CLIP vision model?"
            )
        tokens = self.proj_in(tokens)
        latents = self.latents.to(tokens).expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            latents = layer(tokens, latents)
        return rearrange(self.norm_out(self.proj_out(latents)), "b (t n) d -> b t n d", n=self.config.queries)
