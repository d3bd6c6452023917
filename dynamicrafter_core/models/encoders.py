"""The towers of OpenCLIP's ViT-H/14: prompts to text tokens, pictures to image tokens.

The layers are open_clip's, so its weights fit by name; the way through them is the released models' own: the text stops before
the last block (and is normed all the same), the picture's tokens are taken before the last norm, none of them pooled.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError

Shapes = Mapping[str, tuple[int, ...]]

MOST_CHUNKS = 256  # of a prompt; 75 tokens each are about 14,000 words
_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}  # of ViT-H, -g and -bigG; every other CLIP has heads of 64


@dataclass(frozen=True)
class TextTowerConfig:
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_width: int = 4096
    vocabulary: int = 49408
    context_length: int = 77
    embed_dim: int = 1024

    @classmethod
    def from_shapes(cls, shapes: Shapes, **known: Any) -> "TextTowerConfig":
        """From a state dict's keys and shapes; `known` gives what shapes cannot show (heads)."""
        try:
            vocabulary, width = shapes["token_embedding.weight"]
            inferred = {
                **_infer_blocks(shapes, "transformer.resblocks", width, known.get("heads")),
                "vocabulary": vocabulary,
                "context_length": shapes["positional_embedding"][0],
                "embed_dim": shapes["text_projection"][1],
            }
        except KeyError as error:
            raise InputError(f"These {len(shapes)} tensors are not a CLIP text tower: {error} is missing.") from error
        return cls(**{**inferred, **known})


@dataclass(frozen=True)
class VisionTowerConfig:
    width: int = 1280
    layers: int = 32
    heads: int = 16
    mlp_width: int = 5120
    patch_size: int = 14
    image_size: int = 224
    embed_dim: int = 1024

    @classmethod
    def from_shapes(cls, shapes: Shapes, **known: Any) -> "VisionTowerConfig":
        """From a state dict's keys and shapes; `known` gives what shapes cannot show (heads)."""
        try:
            width, _, patch_size, _ = shapes["visual.conv1.weight"]
            inferred = {
                **_infer_blocks(shapes, "visual.transformer.resblocks", width, known.get("heads")),
                "patch_size": patch_size,
                "image_size": patch_size * math.isqrt(shapes["visual.positional_embedding"][0] - 1),
                "embed_dim": shapes["visual.proj"][1],
            }
        except KeyError as error:
            raise InputError(f"These {len(shapes)} tensors are not a CLIP image tower: {error} is missing.") from error
        return cls(**{**inferred, **known})


def _infer_blocks(shapes: Shapes, blocks: str, width: int, heads: int | None) -> dict[str, int]:
    head_width = _HEAD_WIDTHS.get(width, 64)
    if heads is None and width % head_width:
        raise InputError(
            f"A CLIP tower of width {width} does not show how many heads it has: give `heads`, or state it in the file's "
            "metadata."
        )
    return {
        "width": width,
        "layers": sum(key.startswith(blocks) and key.endswith(".ln_1.weight") for key in shapes),
        "heads": heads or width // head_width,
        "mlp_width": shapes[f"{blocks}.0.mlp.c_fc.weight"][0],
    }


class TextTower(nn.Module):
    def __init__(
        self,
        config: TextTowerConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        clip = _open_clip(config, _NO_VISION, config.embed_dim, dtype, device)
        self.positional_embedding = clip.positional_embedding
        self.text_projection = clip.text_projection  # unused, as logit_scale and the last block; the files hold them
        self.logit_scale = clip.logit_scale
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.ln_final = clip.ln_final

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B,L], L at most the context length -> text tokens [B,L,D]."""
        length = tokens.shape[1]
        x = self.token_embedding(tokens)
        x = x + self.positional_embedding[:length].to(x)
        causal = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        blocks: Any = self.transformer.resblocks
        return self.ln_final(_through(blocks[:-1], x, causal))

    def encode(self, prompts: str | Sequence[str]) -> Tensor:
        """Prompts -> text tokens [B,L*k,D], k the chunks of the longest; every chunk is encoded once, by itself."""
        tokens = tokenize(prompts, self.config.context_length)
        if int(tokens.max()) >= self.config.vocabulary:
            raise InputError(
                f"This text tower knows {self.config.vocabulary} tokens, fewer than the tokenizer makes "
                f"({int(tokens.max()) + 1}): it needs a tokenizer of its own."
            )
        rows, places = tokens.flatten(0, 1).unique(dim=0, return_inverse=True)
        encoded = self(rows.to(self.token_embedding.weight.device))
        return encoded[places.to(encoded.device)].unflatten(0, tokens.shape[:2]).flatten(1, 2)


class VisionTower(nn.Module):
    """Only the image half: what released files keep of the text half beside it, no one reads."""

    def __init__(
        self,
        config: VisionTowerConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.visual: Any = _open_clip(_NO_TEXT, config, config.embed_dim, dtype, device).visual

    def forward(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels [B,3,S,S] -> image tokens [B,1+P,E], the class token first."""
        size = self.config.image_size
        if pixels.shape[1:] != (3, size, size):
            raise InputError(f"The image tower takes [batch, 3, {size}, {size}], not {list(pixels.shape)}.")
        visual = self.visual
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)  # b p e
        x = torch.cat([visual.class_embedding.to(x).expand(x.shape[0], 1, -1), x], dim=1)
        x = visual.ln_pre(x + visual.positional_embedding.to(x))
        return _through(visual.transformer.resblocks, x)


def tokenize(prompts: str | Sequence[str], context_length: int = 77) -> Tensor:
    """Prompts -> token ids [B,k,L]: chunks of start, up to L-2 tokens, end, zeros.

    k is the same for all: a prompt of fewer chunks repeats them, which attention cannot tell from having them once.
    """
    encoder = _tokenizer()
    start, end = encoder.encoder["<start_of_text>"], encoder.encoder["<end_of_text>"]
    room = context_length - 2

    def chunks(prompt: str) -> list[list[int]]:
        ids = encoder.encode(prompt)
        pieces = [ids[first : first + room] for first in range(0, max(len(ids), 1), room)]
        return [[start, *piece, end, *[0] * (room - len(piece))] for piece in pieces]

    rows = [chunks(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
    count = math.lcm(*map(len, rows))
    if count > MOST_CHUNKS:
        lengths = " and ".join(str(len(row)) for row in rows)
        raise InputError(
            f"the prompts take {lengths} chunks of {room} tokens, whose least common multiple is {count}; give "
            f"prompts of at most {MOST_CHUNKS} chunks, all of one length or one of them short."
        )
    return torch.tensor([row * (count // len(row)) for row in rows])


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()  # its vocabulary is a file of the package


def _through(blocks: Iterable[Any], x: Tensor, mask: Tensor | None = None) -> Tensor:
    """b l d through transformer blocks, which older versions of open_clip want as l b d."""
    for block in blocks:
        if block.attn.batch_first:
            x = block(x, attn_mask=mask)
        else:
            x = block(x.transpose(0, 1), attn_mask=mask).transpose(0, 1)
    return x


_NO_TEXT = TextTowerConfig(1, layers=1, heads=1, mlp_width=1, vocabulary=1, context_length=1)
_NO_VISION = VisionTowerConfig(1, layers=1, heads=1, mlp_width=1, patch_size=1, image_size=1)


def _open_clip(
    text: TextTowerConfig,
    vision: VisionTowerConfig,
    embed_dim: int,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> Any:
    """The CLIP of which a tower takes its half; open_clip builds none without the other half."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    with nullcontext() if device is None else torch.device(device):
        clip = CLIP(
            embed_dim=embed_dim,
            vision_cfg=CLIPVisionCfg(
                layers=vision.layers,
                width=vision.width,
                head_width=vision.width // vision.heads,
                mlp_ratio=_ratio(vision),
                patch_size=vision.patch_size,
                image_size=vision.image_size,
            ),
            text_cfg=CLIPTextCfg(
                context_length=text.context_length,
                vocab_size=text.vocabulary,
                width=text.width,
                heads=text.heads,
                layers=text.layers,
                mlp_ratio=_ratio(text),
            ),
        )
    return clip.to(dtype=dtype)


def _ratio(config: TextTowerConfig | VisionTowerConfig) -> float:
    """open_clip rounds width x ratio down; half a unit more makes that exact."""
    return (config.mlp_width + 0.5) / config.width
