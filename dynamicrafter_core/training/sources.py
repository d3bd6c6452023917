"""The data a recipe names: procedural clips, or a folder or tar of videos."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import InputError
from .clips import Clips, ProceduralClips
from .videos import VideoClips

Source = Callable[..., Clips]
KINDS: Mapping[str, Any] = {"procedural": ProceduralClips, "videos": VideoClips}


def make_source(data: Mapping[str, Any], seed: int, device: torch.device) -> Source:
    """`data` is {"kind": "procedural" or "videos", ...}, the rest being that source's own settings."""
    given = {name: value for name, value in data.items() if name != "kind"}
    kind = str(data.get("kind"))
    if kind not in KINDS:
        raise InputError(f"The data's kind is {kind!r}; give {' or '.join(KINDS)}.")
    try:
        return KINDS[kind](seed=seed, device=device, **given)
    except TypeError as error:
        raise InputError(f"The data's settings do not fit {kind}: {str(error).split('__init__() ')[-1]}.") from error
