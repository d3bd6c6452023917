"""Frames out: a video, a GIF, a folder of PNG frames or a contact sheet, each with the settings that made it inside.

.mp4          H.264, as every player takes it
.gif          one palette for the whole clip
.png          a contact sheet: all frames on one page
no suffix     a folder of frame_0001.png, frame_0002.png, ...
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import check_writable, written_whole
from ..checks import check_number
from ..errors import InputError
from .video import check_h264, read_mp4_comment, write_gif, write_mp4

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

KINDS = ".mp4, .gif, .png (a contact sheet) or no suffix (a folder of PNG frames)"
_TEXT_KEY = "dynamicrafter"  # of the settings among a PNG's texts
_MOST_PIXELS = 2**25  # that are read for the sake of a text; files of this library are smaller
_SHEET_SIDE = 2048  # pixels; larger sheets are scaled down
_SHEET_GAP = 4


def check_target(target: str | os.PathLike[str]) -> Path:
    """`target` as a path that save_clip can write. Worth asking before the minutes of work that it is to hold."""
    path = Path(target)
    kind = path.suffix.lower()
    if not path.name:
        raise InputError(f"output {os.fspath(target)!r} names no file; give one that ends in {KINDS}.")
    if kind not in _WRITERS:
        raise InputError(f"output {path} ends in {path.suffix}; give {KINDS}.")
    if kind and os.path.isdir(path):
        raise InputError(f"output {path} is a folder; give the name of a file in it.")
    if not kind and os.path.isfile(path):
        raise InputError(f"output {path} is a file; give the folder of PNG frames another name, or end in {KINDS}.")
    if not kind and os.path.isdir(path):
        foreign = next((entry.name for entry in path.iterdir() if not entry.match("frame_*.png")), None)
        if foreign:
            raise InputError(f"output folder {path} holds other files, such as {foreign}; give a new folder.")
    if kind == ".mp4":
        check_h264()
    check_writable(path)
    return path


def save_clip(
    frames: "Tensor | np.ndarray",
    target: str | os.PathLike[str],
    fps: float,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write uint8 frames [T,H,W,3] as the kind of file that `target`'s suffix names; `settings` hold what JSON can."""
    import numpy as np

    path = check_target(target)
    fps = check_number("fps", fps, 0.1, 240)
    pixels = np.ascontiguousarray(frames)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not pixels.size:
        raise InputError(f"the frames are {pixels.dtype} of shape {list(pixels.shape)}; give uint8 [T,H,W,3].")
    save_frames(iter(pixels), path, fps, settings)
    return path


def save_frames(
    frames: "Iterable[Tensor | np.ndarray]",
    target: str | os.PathLike[str],
    fps: float,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Write uint8 frames [H,W,3] as they come, and give their number; a video or a folder never holds all of them."""
    import numpy as np

    path, count = check_target(target), 0

    def counted() -> "Iterator[np.ndarray]":
        nonlocal count
        for frame in frames:
            count += 1
            yield np.ascontiguousarray(frame)

    # In ASCII, which every container takes (a GIF's comment nothing else).
    text = json.dumps(dict(settings or {}))
    with written_whole(path) as part:
        _WRITERS[path.suffix.lower()](part, counted(), fps, text)
    return count


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings that save_clip put into a file, or into the frames of a folder."""
    path = Path(path)
    file = min(path.glob("frame_*.png"), default=path) if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise InputError(f"{file} is not a file; give one saved by this library, or a folder of its PNG frames.")
    read = read_mp4_comment if file.suffix.lower() == ".mp4" else _read_image_comment
    try:
        settings = json.loads(read(file))
    except InputError:
        raise
    except Exception as error:  # a damaged file can lead its reader anywhere
        raise InputError(f"{file} holds no settings; only files saved by this library contain them.") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file} holds a comment that is not a clip's settings.")
    return settings


def _read_image_comment(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        if _TEXT_KEY not in image.info and image.width * image.height < _MOST_PIXELS:
            image.load()  # a PNG's texts may follow its pixels, where another program wrote it again
        comment = image.info.get(_TEXT_KEY) or image.info.get("comment") or ""
    return comment.decode() if isinstance(comment, bytes) else comment


def _png_text(text: str) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(_TEXT_KEY, text)
    return info


def _write_frames(folder: Path, frames: "Iterable[np.ndarray]", fps: float, text: str) -> None:
    from PIL import Image

    folder.mkdir()
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(folder / f"frame_{number:04d}.png", pnginfo=_png_text(text))


def _write_sheet(path: Path, frames: "Iterable[np.ndarray]", fps: float, text: str) -> None:
    from PIL import Image

    frames = list(frames)
    count, (height, width) = len(frames), frames[0].shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = min(1, _SHEET_SIDE / (columns * width), _SHEET_SIDE / (rows * height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    sheet = Image.new("RGB", (columns * (width + _SHEET_GAP) - _SHEET_GAP, rows * (height + _SHEET_GAP) - _SHEET_GAP))
    for index, frame in enumerate(frames):
        image = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(image, (index % columns * (width + _SHEET_GAP), index // columns * (height + _SHEET_GAP)))
    sheet.save(path, "PNG", pnginfo=_png_text(text))


_WRITERS: dict[str, Callable[[Path, "Iterable[np.ndarray]", float, str], None]] = {
    ".mp4": write_mp4,
    ".gif": write_gif,
    ".png": _write_sheet,
    "": _write_frames,
}
