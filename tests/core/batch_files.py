"""What tests of batches begin with, and what they compare."""

import json
from pathlib import Path
from typing import Any

from micro import picture
from PIL import Image


def with_pictures(folder: Path) -> Path:
    for number in range(4):
        Image.fromarray(picture(number)).save(folder / f"p{number}.png")
    return folder


def lines(path: Path, *entries: Any) -> Path:
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in entries))
    return path


def pixels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.mp4"))}
