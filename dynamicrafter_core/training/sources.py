"""The data a recipe names: procedural clips, real pictures, things that move in them, a folder or tar of videos, or a mixture of such."""

from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import torch

from ..checks import check_integer, check_number, is_of, kind_of
from ..errors import InputError
from .clips import Clips, ProceduralClips
from .mixed_clips import MixedClips
from .picture_clips import PictureClips
from .thing_clips import ThingClips
from .videos import VideoClips

Source = Callable[..., Clips]
KINDS: Mapping[str, Any] = {
    "procedural": ProceduralClips,
    "videos": VideoClips,
    "pictures": PictureClips,
    "things": ThingClips,
}
MIXED = "mixed"


def make_source(data: Mapping[str, Any], seed: int, device: torch.device) -> Source:
    """`data` is {"kind": one of KINDS, ...}, the rest being that source's own settings; or {"kind": "mixed", "parts": [...], ...}, each
    part {"share": a number, "kind": ..., ...} with its own settings, the rest being those of all parts."""
    if data.get("kind") == MIXED:
        return MixedClips(_parts(data, seed, device), seed)
    kind = str(data.get("kind"))
    if kind not in KINDS:
        raise InputError(f"The data's kind is {kind!r}; give {', '.join(KINDS)} or {MIXED}.")
    hints = get_type_hints(KINDS[kind].__init__)
    settings = _without(data, "kind")
    for name, value in settings.items():
        if name in hints and not is_of(value, hints[name]):
            raise InputError(f"The data's {name} is {value!r}; give {kind_of(hints[name])}.")
    for name in ("height", "width", "frames"):
        if name in settings:
            check_integer(f"the data's {name}", settings[name], 1, 10_000)
    try:
        return KINDS[kind](seed=seed, device=device, **settings)
    except TypeError as error:
        raise InputError(f"The data's settings do not fit {kind}: {str(error).split('__init__() ')[-1]}.") from error


def _parts(data: Mapping[str, Any], seed: int, device: torch.device) -> list[tuple[float, Source]]:
    parts = data.get("parts")
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) and "share" in part for part in parts):
        raise InputError("Mixed data has parts, a list of objects: each with a share, a kind and that kind's settings.")
    common = _without(data, "kind", "parts")
    return [
        (
            check_number("the share of a part of the data", part["share"], 0),
            make_source({**common, **_without(part, "share")}, seed, device),
        )
        for part in parts
    ]


def _without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The settings but these and comments ("//...")."""
    return {key: value for key, value in settings.items() if key not in names and not key.startswith("//")}
