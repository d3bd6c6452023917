"""Jobs: one line of a file each, with the command line's words as keys; every job is checked before any is made."""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from ..errors import InputError, one_line
from ..families import Mode
from ..media.images import SUFFIXES
from ..pipeline.keywords import MODEL_KEYS, OPTION_KEYS, Model, content_of, keyword, read_model, read_options, typed
from ..text_files import read_text

FORMATS = ("mp4", "gif", "png")
MODES: tuple[str, ...] = get_args(Mode)
_IMAGES = {
    "animate": ("image",),
    "interpolate": ("image", "last"),
    "loop": ("image",),
    "fly": ("image",),
    "generate": (),
}
_CAMERA_KEYS = ("camera", "depth", "depth_kind", "depth_range", "field_of_view", "easing", "amount")
_OTHER_KEYS = ("name", "mode", "prompt", "image", "last", "guide", "size", "format")
_FILE_KEYS = (
    "image",
    "last",
    "mask",
    "brush",
    "brush_to",
    "flow",
    "original",
    "negative_image",
    "depth",
    "guide",
    "initial_noise",
    "sketch_encoder",
)
KEYS = (*_OTHER_KEYS, *MODEL_KEYS, *OPTION_KEYS, *_CAMERA_KEYS)
_NAME = re.compile(r"[A-Za-z0-9][\w. -]{0,99}")


@dataclass(frozen=True)
class Job:
    number: int
    where: str  # "jobs.jsonl, line 3"
    name: str  # of the result, without its suffix
    mode: str
    prompt: str
    model: Model
    images: tuple[str, ...]
    options: Mapping[str, Any]  # the pipeline's keywords
    guide: str | Mapping[str, Any] | None = None  # of a flight: a file, or a camera's settings
    format: str = "mp4"

    @property
    def file(self) -> str:
        return f"{self.name}.{self.format}"

    def fingerprint(self) -> str:
        """Changes when anything that the clip is made from changes, the pictures' contents included."""
        said = {**vars(self), "model": vars(self.model), "options": dict(self.options)}
        told = {key: value for key, value in said.items() if key not in ("number", "where")}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
        for path in self.files():
            digest.update(content_of(Path(path)))
        encoder = self.options.get("sketch_encoder")
        for path in (self.model.model, *self.model.extra, *filter(None, [encoder])):
            digest.update(str(Path(path).stat().st_size if os.path.isfile(Path(path)) else 0).encode())
        return digest.hexdigest()[:32]

    def files(self) -> Iterator[str]:
        """Everything it reads but the model, whose size alone tells when it changes."""
        yield from self.images
        guide = self.guide.get("depth") if isinstance(self.guide, Mapping) else self.guide
        yield from (
            path
            for path in (
                guide,
                *map(self.options.get, ("mask", "brush", "brush_to", "flow", "original", "negative_image")),
                self.model.initial_noise,
            )
            if path
        )
        yield from self.options.get("references", ())
        sketches = self.options.get("sketches", {})
        yield from [sketches] if isinstance(sketches, str) else sketches.values()


@dataclass(frozen=True)
class Refused:
    """A line that is no job, and why."""

    number: int
    where: str
    name: str
    error: str


@dataclass
class Reader:
    """Lines become jobs; what is wrong becomes a sentence for each line, and the others go on."""

    folder: Path = field(default_factory=Path)  # relative paths begin here
    defaults: Mapping[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # result -> where

    def read(self, entries: Iterable[tuple[str, Any]]) -> Iterator[Job | Refused]:
        for number, (where, entry) in enumerate(entries, 1):
            try:
                yield self._job(number, where, entry)
            except InputError as error:
                name = entry.get("name") if isinstance(entry, Mapping) else None
                yield Refused(
                    number, where, one_line(name) if isinstance(name, str) else f"{number:04d}", f"{where}: {error}"
                )

    def _job(self, number: int, where: str, entry: Any) -> Job:
        if isinstance(entry, Exception):
            raise InputError(
                f'the line is not JSON ({entry}); give an object such as {{"image": "a.jpg", "prompt": "waves"}}.'
            )
        if not isinstance(entry, Mapping):
            raise InputError(f"the line is a {type(entry).__name__}; give an object of keys and values.")
        given = {**self.defaults, **{keyword(key, KEYS): value for key, value in entry.items()}}
        given = {key: typed(key, value) for key, value in given.items() if value is not None and value != ""}
        mode = given.get("mode") or _guess_mode(given)
        if mode not in MODES:
            raise InputError(f"mode is {mode!r}; give {', '.join(MODES)}.")
        for key in _FILE_KEYS:
            if key in given:
                given[key] = self._found(key, given[key])
        if "references" in given:
            given["references"] = tuple(self._found("references", path) for path in given["references"])
        if "sketches" in given:
            given["sketches"] = tuple(self._found_at("sketches", each) for each in given["sketches"])
        images = _images(mode, given)
        guide = _guide(mode, given)
        name = self._name(number, where, given, images)
        shape = given.get("format", "mp4")
        if shape not in FORMATS:
            raise InputError(f"format is {shape!r}; give {', '.join(FORMATS)}.")
        return Job(
            number,
            where,
            name,
            mode,
            _prompt(mode, given),
            read_model(self.folder, given),
            images,
            read_options(given),
            guide,
            shape,
        )

    def _found(self, key: str, path: str) -> str:
        found = self.folder / path
        if not os.path.exists(found):
            raise InputError(f"{key} {found} does not exist; check the path.")
        return str(found)

    def _found_at(self, key: str, text: str) -> str:
        """ "lines.png@5": a file with its frame."""
        path, at, frame = text.rpartition("@")
        if at and re.fullmatch(r"-?\d+", frame):
            return f"{self._found(key, path)}@{frame}"
        return self._found(key, text)

    def _name(self, number: int, where: str, given: Mapping[str, Any], images: Sequence[str]) -> str:
        stem = re.sub(r"[^\w.-]+", "_", Path(images[0]).stem).strip("._") if images else ""
        name = given.get("name") or "-".join(filter(None, (f"{number:04d}", stem[:80])))
        if not _NAME.fullmatch(name) or name.endswith((".", " ")):
            raise InputError(
                f"name is {name!r}; give letters, digits, spaces, -, _ and dots, without a folder, up to 100 characters."
            )
        other = self.names.setdefault(name.lower(), where)
        if other != where:
            raise InputError(f"name {name!r} is taken by {other}; give each job its own.")
        return name


def read_jobs(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]], defaults: Mapping[str, Any] | None = None
) -> list[Job | Refused]:
    """From a .jsonl or .csv file, a folder of pictures, or a list of mappings. A job's own words go before `defaults`."""
    common = {keyword(key, KEYS): value for key, value in (defaults or {}).items()}
    if not isinstance(source, (str, os.PathLike)):
        return list(Reader(Path(), common).read((f"job {number}", entry) for number, entry in enumerate(source, 1)))
    path = Path(source)
    if os.path.isdir(path):
        pictures = sorted(each.name for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
        if not pictures:
            raise InputError(f"{path} holds no pictures; give a folder of {', '.join(SUFFIXES)} files.")
        return list(Reader(path, common).read((name, {"image": name}) for name in pictures))
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist; give a .jsonl or .csv file of jobs, or a folder of pictures.")
    text = read_text(path)
    entries = list(_csv(path, text) if path.suffix.lower() == ".csv" else _json_lines(path, text))
    if entries and isinstance(entries[0][1], Mapping) and set(entries[0][1]) == {"defaults"}:
        where, head = entries.pop(0)
        if not isinstance(head["defaults"], Mapping):
            raise InputError(f"{where}: defaults is {head['defaults']!r}; give an object of keys and values.")
        try:
            common = {**{keyword(key, KEYS): value for key, value in head["defaults"].items()}, **common}
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    if not entries:
        raise InputError(f'{path} holds no jobs; give one a line, such as {{"image": "a.jpg", "prompt": "waves"}}.')
    return list(Reader(path.parent, common).read(entries))


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            where = f"{path.name}, line {number}"
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield where, ValueError(str(error))


def _csv(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(text.splitlines())
    for row in reader:
        where = f"{path.name}, line {reader.line_num}"
        if None in row:
            yield where, ValueError("more values than columns")
        else:
            yield where, {key: value for key, value in row.items() if value}


def _guess_mode(given: Mapping[str, Any]) -> str:
    if "camera" in given or "guide" in given:
        return "fly"
    return "interpolate" if "last" in given else "animate" if "image" in given else "generate"


def _prompt(mode: str, given: Mapping[str, Any]) -> str:
    return str(given.get("prompt", "Rotating view of a scene" if mode == "fly" else ""))


def _images(mode: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    wanted = _IMAGES[mode]
    if missing := [key for key in wanted if key not in given]:
        raise InputError(f"{missing[0]} is missing; to {mode}, give {' and '.join(wanted)}.")
    if spare := [key for key in ("image", "last") if key in given and key not in wanted]:
        raise InputError(f"{spare[0]} is {given[spare[0]]!r}, but mode {mode} takes none; leave it out.")
    return tuple(given[key] for key in wanted)


def _guide(mode: str, given: Mapping[str, Any]) -> str | Mapping[str, Any] | None:
    camera = {key: given[key] for key in _CAMERA_KEYS if key in given}
    if mode != "fly":
        if camera or "guide" in given:
            raise InputError(f"{next(iter(camera), 'guide')} is given, but only mode fly takes it; leave it out.")
        return None
    if ("camera" in given) == ("guide" in given):
        raise InputError("to fly, give either camera, such as 'orbit left', or guide, a video of views.")
    return str(given["guide"]) if "guide" in given else {"motion": camera.pop("camera"), **camera}
