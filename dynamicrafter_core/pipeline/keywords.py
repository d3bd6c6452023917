"""Settings in files, of jobs or of a film: the command line's words as keys, and values that may all be text."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options import SHORT_NAMES, Options
from .sketches import read_places

MODEL_KEYS = ("model", "variant", "dtype", "extra", "initial_noise")
_OPTIONS = tuple(name for name in Options.__annotations__ if name not in ("on_progress", "picture_strengths"))
OPTION_KEYS = (*_OPTIONS, *SHORT_NAMES)
_LISTS = {
    "extra": "files",
    "then": "prompts",
    "references": "files",
    "sketches": "files with their frames",
    "reference_weights": "numbers",
}
_SCALES = ("cfg", "cfg_image", "text_scale", "image_scale")  # a number, or a curve as a text
_WHOLE = (
    "window",
    "overlap",
    "closed_loop",
    "stride",
    "freenoise",
    "seed",
    "steps",
    "fs",
    "frames",
    "width",
    "height",
    "start_step",
    "freeinit",
    "keep",
    "lock",
    "paste",
)
_TEXT = [
    "prompt",
    "negative",
    "fuse",
    "motion",
    "guidance_limits",
    "sketch_plan",
    "sketch_encoder",
    "strokes",
    "speed",
    "name",
    "mode",
    "size",
    "format",
    "spacing",
    "fit",
    "noise",
    "noise_path",
    "variant",
    "dtype",
    "model",
    "camera",
    "depth_kind",
    "easing",
    "image",
    "last",
    "guide",
    "mask",
    "brush",
    "brush_to",
    "flow",
    "original",
    "negative_image",
    "initial_noise",
    "depth",
    "transition",
    "match",
    "morph_model",
]


@dataclass(frozen=True)
class Model:
    """What has to be opened to make a job; jobs of the same model follow one another."""

    model: str = "embedded"
    variant: str = "auto"
    dtype: str = "auto"
    extra: tuple[str, ...] = ()
    initial_noise: str | None = None


def keyword(key: Any, keys: Sequence[str]) -> str:
    """ "cfg-image" and "cfg_image" are the same key."""
    name = str(key).strip().lower().replace("-", "_")
    if name in keys:
        return name
    close = get_close_matches(name, keys, n=1)
    hint = f"; the nearest is {close[0]}" if close else ""
    raise InputError(
        f"there is no key {str(key)!r}{hint}; the keys are the command line's, such as image, prompt, seed, steps."
    )


def typed(key: str, value: Any) -> Any:
    """The value as its key's kind: a CSV file has only text."""
    if key in _LISTS:
        listed = value.split(";") if isinstance(value, str) else value
        if key == "reference_weights":
            return tuple(_number(key, each) for each in (listed if isinstance(listed, Sequence) else [listed]))
        if isinstance(listed, Sequence) and all(isinstance(each, str) for each in listed):
            return tuple(listed)
        raise InputError(f"{key} is {value!r}; give a list of {_LISTS[key]}.")
    if key in _TEXT:
        if isinstance(value, str):
            return value
        raise InputError(f"{key} is {value!r}; give text.")
    return value if key in _SCALES and ":" in str(value) else _number(key, value)


def _number(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return int(value) if key in _WHOLE else float(value)
    except ValueError:
        raise InputError(f"{key} is {value!r}; give a {'whole ' * (key in _WHOLE)}number.") from None


def read_model(folder: Path, given: Mapping[str, Any]) -> Model:
    model = given.get("model", "embedded")
    near = folder / model
    extra = tuple(str(folder / each) if os.path.exists(folder / each) else each for each in given.get("extra", ()))
    path = str(near) if model != "embedded" and os.path.exists(near) else model
    return Model(path, given.get("variant", "auto"), given.get("dtype", "auto"), extra, given.get("initial_noise"))


def read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    options = {
        SHORT_NAMES.get(key, key): value for key, value in given.items() if key in _OPTIONS or key in SHORT_NAMES
    }
    if "sketches" in options:
        options["sketches"] = read_places(options["sketches"])
    if "size" in given:
        match = re.fullmatch(r"(\d+)\s*[xX*]\s*(\d+)", given["size"])
        if not match:
            raise InputError(f"size is {given['size']!r}; give a width and a height, such as 512x320.")
        options |= {"width": int(match[1]), "height": int(match[2])}
    return options


def content_of(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        inside = sorted(each for each in path.iterdir() if each.is_file()) if os.path.isdir(path) else [path]
        for each in inside:
            digest.update(each.name.encode("utf-8", "surrogateescape") + b"\0" + each.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions and its disk.") from error
    return digest.digest()
