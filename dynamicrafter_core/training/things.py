"""Things with a name and a shape: the colour emoji of an installed font, to be put in front of pictures.

The font is Debian's package fonts-noto-color-emoji (SIL Open Font License), read where it is installed; none of it is part of this
repository.
"""

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
_SIZE = 109  # the one size in which the font's bitmaps are stored
# First and last of each range of Unicode that holds animals, food, vehicles, and things of feasts and sports.
_RANGES = (
    *((0x1F400, 0x1F43D), (0x1F980, 0x1F9AE), (0x1F345, 0x1F37F), (0x1F950, 0x1F96F)),
    *((0x1F680, 0x1F6A4), (0x1F380, 0x1F393), (0x1F3B8, 0x1F3D0), (0x26BD, 0x26BE)),
)
_HELD_OUT = 38  # of 256 values of the name's hash


@dataclass(frozen=True)
class Thing:
    name: str  # as Unicode has it, in small letters: "soccer ball"
    picture: Tensor  # 4 h w, 0..1: colours times opacity, and opacity

    @property
    def held_out(self) -> bool:
        return hashlib.sha256(self.name.encode()).digest()[0] < _HELD_OUT


@lru_cache
def find_things(font: str = "") -> tuple[Thing, ...]:
    """All things of this file (by default the installed font), in the order of Unicode."""
    things = tuple(_drawn(Path(font or FONT)))
    if not things:
        raise InputError(f"{font or FONT} has no colour emoji; give the file of fonts-noto-color-emoji.")
    return things


def _drawn(font: Path) -> Iterator[Thing]:
    from PIL import Image, ImageDraw, ImageFont

    try:
        pen = ImageFont.truetype(font, _SIZE)
    except OSError as error:
        raise InputError(
            f"{font} cannot be read as a font ({error}); things are drawn with the font of Debian's package "
            "fonts-noto-color-emoji. Install it, or give its file as `font`."
        ) from error
    for first, last in _RANGES:
        for code in range(first, last + 1):
            letter = chr(code)
            paper = Image.new("RGBA", (2 * _SIZE, 2 * _SIZE))
            ImageDraw.Draw(paper).text((0, 0), letter, font=pen, embedded_color=True)
            name, box = unicodedata.name(letter, ""), paper.getchannel("A").getbbox()
            colours = np.asarray(paper.crop(box), np.float32) / 255 if name and box else np.zeros((1, 1, 4), np.float32)
            if colours[..., :3].any():
                picture = torch.from_numpy(colours.copy()).permute(2, 0, 1)
                yield Thing(name.lower(), torch.cat([picture[:3] * picture[3:], picture[3:]]))
