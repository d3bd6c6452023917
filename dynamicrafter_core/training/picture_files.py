"""Real pictures that the tests' environment already has: those of ComfyUI's template packages, which are under the MIT licence.

They are read where pip installed them; none is part of this repository. A tenth and more of the templates are held out by their
name, with all their pictures, so that what is measured was never trained on.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from ..errors import InputError

PACKAGES = "comfyui-workflow-templates-media-"
INDEX = "comfyui-workflow-templates-json"
_SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")
_HELD_OUT = 38  # of 256 values of the name's hash


@dataclass(frozen=True)
class PictureFile:
    path: Path
    title: str  # of its template; empty where the index has none
    package: str  # with its version
    licence: str

    @property
    def held_out(self) -> bool:
        return is_held_out(self.path.name)

    def checksum(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def is_held_out(file_name: str) -> bool:
    """By the hash of the template's name, which is the file's without its number: name-1.webp."""
    template = file_name.rsplit(".", 1)[0].rsplit("-", 1)[0]
    return hashlib.sha256(template.encode()).digest()[0] < _HELD_OUT


def find_picture_files() -> list[PictureFile]:
    """All pictures of the installed packages, in the order of their names; of two of one name the first."""
    named = {str(each.metadata["Name"]).lower().replace("_", "-"): each for each in distributions()}
    titles = dict(_titles(named[INDEX])) if INDEX in named else {}
    found: dict[str, PictureFile] = {}
    for name, package in sorted(named.items()):
        if not name.startswith(PACKAGES):
            continue
        licence = str(package.metadata["License-Expression"] or "unknown")
        for entry in package.files or ():
            if entry.suffix.lower() in _SUFFIXES:
                title = titles.get(entry.stem.rsplit("-", 1)[0], "")
                path = Path(str(package.locate_file(entry)))
                found.setdefault(path.name, PictureFile(path, title, f"{name} {package.version}", licence))
    if not found:
        raise InputError(
            f"No pictures are installed: training on pictures reads those of the packages {PACKAGES}*. Install them "
            "with pip install comfyui-workflow-templates, or give a file of packed pictures."
        )
    return [found[name] for name in sorted(found)]


def _titles(package: Distribution) -> Iterator[tuple[str, str]]:
    index = next((entry for entry in package.files or () if entry.name == "index.json"), None)
    if index is None:
        return
    groups: list[dict[str, Any]] = json.loads(Path(str(package.locate_file(index))).read_text(encoding="utf-8"))
    for group in groups:
        for template in group["templates"]:
            yield str(template["name"]), str(template.get("title", ""))
