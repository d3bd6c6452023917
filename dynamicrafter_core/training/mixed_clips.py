"""Clips of several sources in one batch, each of a share: a model that learns something new keeps what it could."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..errors import InputError
from .clips import Clips
from .seeds import generator


class MixedClips:
    """A source of clips, as ProceduralClips is; held-out clips are those of the first part."""

    def __init__(self, parts: Sequence[tuple[float, Any]], seed: int = 0) -> None:
        if not parts or min(share for share, _ in parts) <= 0:
            raise InputError("A mixture of data needs parts, each with a share above 0.")
        self.sources = [source for _, source in parts]
        self.shares = torch.tensor([share for share, _ in parts])
        self.seed = seed

    def __call__(self, split: str, numbers: Sequence[int], **given: Any) -> Clips:
        if split != "train":
            clips: Clips = self.sources[0](split, numbers, **given)
            return clips
        chosen = [self._part(number) for number in numbers]
        made: Mapping[int, Clips] = {
            part: source(split, [n for n, c in zip(numbers, chosen, strict=True) if c == part])
            for part, source in enumerate(self.sources)
            if part in chosen
        }
        place = {part: iter(range(len(clips.captions))) for part, clips in made.items()}
        rows = [(made[part], next(place[part])) for part in chosen]
        return Clips(
            torch.stack([clips.pixels[row] for clips, row in rows]),
            [clips.captions[row] for clips, row in rows],
            torch.stack([clips.fs[row] for clips, row in rows]),
            strength=torch.tensor([_strength(clips, row) for clips, row in rows], device=rows[0][0].pixels.device),
        )

    def _part(self, number: int) -> int:
        return int(torch.multinomial(self.shares, 1, generator=generator(self.seed, "part", number)))


def _strength(clips: Clips, row: int) -> float:
    return float(clips.strength[row]) if isinstance(clips.strength, torch.Tensor) else clips.strength
