"""A film's script: its shots in order, as JSON or as text of one line a shot, checked before anything is made.

{"size": "512x320", "shots": [                      size: 512x320
  {"image": "harbour.jpg", "prompt": "waves",       harbour.jpg | waves | 4 s | dissolve
   "seconds": 4, "transition": "dissolve"},         night.jpg | stars come out
  {"image": "night.jpg", "prompt": "stars"}]}
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from ..checks import check_integer, check_number
from ..errors import InputError
from ..media.colour import MATCHES, Match
from ..pipeline.keywords import MODEL_KEYS, OPTION_KEYS, Model, keyword, read_model, read_options, typed
from ..pipeline.settings import MOST_FRAMES
from ..text_files import read_text

Transition = Literal["cut", "dissolve", "continue", "morph"]
TRANSITIONS: tuple[Transition, ...] = get_args(Transition)

_WHOLE_FILM = ("size", "width", "height", "fps", "frames", "keep", "match")
_FILES = (
    "original",
    "mask",
    "strokes",
    "brush",
    "brush_to",
    "flow",
    "strength",
    "negative_image",
    "references",
    "reference_weights",
    "sketches",
    "sketch_encoder",
    "sketch_plan",
)  # which a film does not read
_NOT_OF_SHOTS = (*_WHOLE_FILM, *_FILES)
_LOOK = tuple(key for key in OPTION_KEYS if key not in _NOT_OF_SHOTS)
SHOT_KEYS = ("image", "prompt", "seconds", "transition", "transition_seconds", *_LOOK)
FILM_KEYS = (*_WHOLE_FILM, *MODEL_KEYS, "morph_model", "seconds", "transition", "transition_seconds", *_LOOK)

LONGEST_SHOT = 3600.0
USUAL_SECONDS = 2.0
USUAL_DISSOLVE = 0.5
MOST_SHOTS = 10_000
_SECONDS = re.compile(r"([\d.]+)\s*(?:s|sec|seconds?)")


@dataclass(frozen=True)
class Shot:
    """`image` None: the shot goes on from the one before, or is made of its prompt alone."""

    where: str  # "story.json, shot 2"
    image: str | None
    prompt: str
    seconds: float
    transition: Transition  # how it gives way to the next shot
    transition_seconds: float | None
    options: Mapping[str, Any]  # the pipeline's keywords


@dataclass(frozen=True)
class Script:
    shots: tuple[Shot, ...]
    options: Mapping[str, Any] = field(default_factory=dict)  # the pipeline's keywords for the whole film
    keep: int = 1
    match: Match = "joint"
    model: Model = field(default_factory=Model)
    morph_model: str | None = None


def read_script(
    source: str | os.PathLike[str] | Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Script:
    """A .json file, a text file, or the mapping that JSON would give. The script's own words go before `defaults`."""
    if isinstance(source, Mapping):
        return _script(source, "the script", Path(), defaults)
    path = Path(source)
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist; give a film's script, a .json or a text file.")
    return parse_script(read_text(path), path.name, path.parent, defaults)


def parse_script(
    text: str, name: str = "the script", folder: Path | None = None, defaults: Mapping[str, Any] | None = None
) -> Script:
    """JSON, if it begins as an object does, else a line a shot. Files are looked for in `folder`; None: they are not."""
    if not text.lstrip().startswith("{"):
        given, places = _lines(text, name)
        return _script(given, name, folder, defaults, places)
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON ({error}); write an object with a list of shots.") from error
    return _script(given, name, folder, defaults)


def _lines(text: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """What JSON would say, from `key: value` lines for the film and then lines of fields between |; and where each shot stands."""
    film: dict[str, Any] = {}
    shots: list[dict[str, Any]] = []
    places = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{name}, line {number}"
        if "|" in line:
            shots.append(_told(where, _fields, line))
            places.append(where)
        elif (setting := re.fullmatch(r"\s*([\w-]+)\s*:\s*(.+?)\s*", line)) and not shots:
            film[_told(where, keyword, setting[1], FILM_KEYS)] = setting[2]
        else:
            raise InputError(
                f"{where}: {line.strip()[:60]!r} is not a shot; write 'picture | what happens | 2 s | dissolve', and "
                "settings such as 'size: 512x320' above the first shot."
            )
    return {**film, "shots": shots}, places


def _fields(line: str) -> dict[str, Any]:
    image, prompt, *more = (part.strip() for part in line.split("|"))
    shot: dict[str, Any] = {"image": image, "prompt": prompt}
    for part in filter(None, more):
        word, _, rest = part.partition(" ")
        if match := _SECONDS.fullmatch(part):
            shot["seconds"] = match[1]
        elif word in TRANSITIONS:
            shot["transition"] = word
            if rest:
                length = _SECONDS.fullmatch(rest.strip())
                if length is None:
                    raise InputError(
                        f"{part!r} is not a transition; give {word}, or its length too, such as '{word} 1 s'."
                    )
                shot["transition_seconds"] = length[1]
        elif rest:
            shot[keyword(word, SHOT_KEYS)] = rest.strip()
        else:
            raise InputError(
                f"{part!r} is neither a length such as '2 s', nor {', '.join(TRANSITIONS)}, nor a key with its value, such as 'seed 7'."
            )
    return shot


def _script(
    given: Any,
    name: str,
    folder: Path | None,
    defaults: Mapping[str, Any] | None,
    places: Sequence[str] | None = None,
) -> Script:
    if not isinstance(given, Mapping):
        raise InputError(f"{name} is a {type(given).__name__}; write an object with a list of shots.")
    film = {**(defaults or {}), **{key: value for key, value in given.items() if key != "shots"}}
    film = _told(name, _read, film, FILM_KEYS)
    shots = given.get("shots")
    if not isinstance(shots, Sequence) or isinstance(shots, str) or not shots:
        raise InputError(f"{name} has no shots; give a list of one or more, each with an image, or a prompt, or both.")
    check_integer(f"{name}: the number of shots", len(shots), 1, MOST_SHOTS)
    common = {key: film.pop(key) for key in SHOT_KEYS if key in film}
    places = places or [f"{name}, shot {number}" for number in range(1, len(shots) + 1)]
    listed = [_shot(entry, where, common, folder) for entry, where in zip(shots, places, strict=True)]
    last = listed.pop()
    if last.transition not in ("cut", common.get("transition")):
        raise InputError(f"{last.where}: transition is {last.transition!r}, but no shot follows; leave it out.")
    listed.append(replace(last, transition="cut"))
    for shot, after in zip(listed, listed[1:], strict=False):
        if shot.transition == "morph" and after.image is None:
            raise InputError(f"{shot.where}: it morphs into the next shot, which has no image; give it one.")
    keep = _told(name, check_integer, "keep", film.get("keep", 1), 1, 4)
    if "frames" in film:
        _told(name, check_integer, "frames", film["frames"], max(3, keep + 1), MOST_FRAMES)
    base = folder or Path()
    morph = film.get("morph_model")
    return Script(
        tuple(listed),
        _told(name, read_options, film),
        keep,
        _told(name, _choice, "match", film.get("match", "joint"), MATCHES),
        read_model(base, film),
        str(base / morph) if morph and os.path.exists(base / morph) else morph,
    )


def _shot(entry: Any, where: str, common: Mapping[str, Any], folder: Path | None) -> Shot:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is a {type(entry).__name__}; write an object such as {{'image': 'a.jpg'}}.")
    given = {**common, **_told(where, _read, entry, SHOT_KEYS)}
    image, prompt = given.get("image"), given.get("prompt", "")
    if image is None and not prompt:
        raise InputError(f"{where} has neither an image nor a prompt; give one, or both.")
    if image is not None and folder is not None:
        image = str(folder / image)
        if not os.path.isfile(image):
            raise InputError(f"{where}: image {image} does not exist; check the path.")
    if "seed" in given:
        _told(where, check_integer, "seed", given["seed"], 0, 2**64 - 1)
    length = given.get("transition_seconds")
    return Shot(
        where,
        image,
        prompt,
        _told(where, check_number, "seconds", given.get("seconds", USUAL_SECONDS), 0, LONGEST_SHOT),
        _told(where, _choice, "transition", given.get("transition", "cut"), TRANSITIONS),
        None if length is None else _told(where, check_number, "transition_seconds", length, 0, 60.0),
        _told(where, read_options, given),
    )


def _read(given: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    named = {keyword(key, keys): value for key, value in given.items()}
    return {key: typed(key, value) for key, value in named.items() if value is not None and value != ""}


def _choice(key: str, value: Any, choices: Sequence[str]) -> Any:
    if value in choices:
        return value
    close = get_close_matches(str(value), choices, n=1)
    hint = f"; the nearest is {close[0]}" if close else ""
    raise InputError(f"{key} is {value!r}{hint}; give {', '.join(choices)}.")


def _told(where: str, check: Any, *given: Any) -> Any:
    """What `check` makes of it; what it refuses is told with the place in the script."""
    try:
        return check(*given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
