"""What a run is told of its pictures beside the image itself: references, the frame at which it stands, and how long it is seen."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..checks import check_integer, check_number
from ..errors import InputError
from ..families import Family, Mode
from .references import check_weights


def read_references(family: Family, given: Mapping[str, Any]) -> tuple[float, ...]:
    for name in ("negative_image", "references", "reference_weights"):
        if name in given and not family.image_tokens:
            raise InputError(f"{name.replace('_', ' ')} is given, but {family.name} sees no image; leave it out.")
    if "reference_weights" in given and "references" not in given:
        raise InputError(
            f"reference weights is {given['reference_weights']!r} and references is missing; give both, or neither."
        )
    references, weights = given.get("references", ()), given.get("reference_weights", ())
    for name, listed, of in (("references", references, "images"), ("reference weights", weights, "numbers")):
        if not isinstance(listed, Sequence) or isinstance(listed, str):
            raise InputError(f"{name} is a {type(listed).__name__}; give a list of {of}.")
    return check_weights(weights, len(references))


def read_lock(mode: Mode, given: Mapping[str, Any], frames: int) -> int | None:
    if "lock" not in given:
        if given.get("paste"):
            raise InputError("paste is given and lock is missing; give the frame that is to be the image, such as 0.")
        return None
    if mode != "animate":
        raise InputError(
            f"lock is {given['lock']!r}, but only a clip that animates one image can have it; leave it out."
        )
    if taken := [name for name in ("mask", "original", "freeinit") if name in given]:
        raise InputError(
            f"lock and {taken[0]} cannot be combined, because both say what is kept; leave one of them out."
        )
    return check_integer("lock", given["lock"], -frames, frames - 1) % frames


def read_picture_strengths(mode: Mode, given: Mapping[str, Any]) -> tuple[float, ...]:
    strengths = given.get("picture_strengths", (1.0,))
    count = 2 if mode == "interpolate" else 1
    if isinstance(strengths, str) or not isinstance(strengths, Sequence) or len(strengths) not in (1, count):
        raise InputError(
            f"picture strengths are {strengths!r}; give {'one or two numbers' if count > 1 else 'one number'}."
        )
    return tuple(check_number("picture strength", each, 0, 1) for each in strengths)
