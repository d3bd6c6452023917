"""Moving pictures in: a video, an animated picture, or a folder of pictures becomes a list of frames."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .images import SUFFIXES

if TYPE_CHECKING:
    import numpy as np

_ANIMATED = (".gif", ".webp", ".png", ".apng")


def read_clip(path: str | os.PathLike[str], at_most: int = 4096) -> "list[np.ndarray]":
    """Frames [H,W,3] in uint8, and an error where there are none, or more than `at_most`."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a video, or a folder of pictures.")
    read = _in_folder if path.is_dir() else _animated if path.suffix.lower() in _ANIMATED else _in_video
    frames = list(islice(read(path), at_most + 1))
    if not frames:
        raise InputError(f"{path} holds no frames; give a video, or a folder of pictures.")
    if len(frames) > at_most:
        raise InputError(f"{path} holds more than {at_most} frames; cut it first.")
    return frames


def read_rate(path: str | os.PathLike[str]) -> float | None:
    """Frames a second of a video file; None where nothing says so."""
    import av

    if Path(path).is_dir() or Path(path).suffix.lower() in (*_ANIMATED, *SUFFIXES):
        return None
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
    return None if rate is None else float(rate)


def _in_folder(path: Path) -> "Iterator[np.ndarray]":
    for name in sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES):
        yield from islice(_animated(name), 1)


def _animated(path: Path) -> "Iterator[np.ndarray]":
    import numpy as np
    from PIL import Image, ImageSequence, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                yield np.asarray(frame.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error}); it may be damaged.") from error


def _in_video(path: Path) -> "Iterator[np.ndarray]":
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"{path} cannot be decoded as a video ({error}); it may be damaged, or no video.") from error
