"""Moving pictures in: a video, an animated picture, or a folder of pictures becomes a list of frames."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .images import SUFFIXES

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 8 * 10**9  # that frames take together
_ANIMATED = (".gif", ".webp", ".png", ".apng")


def read_clip(path: str | os.PathLike[str], at_most: int = 4096) -> "list[np.ndarray]":
    """Frames [H,W,3] in uint8, and an error where there are none, or more than `at_most`."""
    path = Path(path)
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist; give a video, or a folder of pictures.")
    read = _in_folder if os.path.isdir(path) else _animated if path.suffix.lower() in _ANIMATED else _in_video
    frames, held = [], 0
    for frame in islice(read(path), at_most + 1):
        held += frame.nbytes
        if held > MOST_BYTES:
            raise InputError(
                f"{path} holds more than {MOST_BYTES / 1e9:.0f} GB of pixels; cut it or make it smaller first."
            )
        frames.append(frame)
    if not frames:
        raise InputError(f"{path} holds no frames; give a video, or a folder of pictures.")
    if len(frames) > at_most:
        raise InputError(f"{path} holds more than {at_most} frames; cut it first.")
    return frames


def read_rate(path: str | os.PathLike[str]) -> float | None:
    """Frames a second of a video file; None where nothing says so."""
    import av

    path = Path(path)
    if os.path.isdir(path) or path.suffix.lower() in (*_ANIMATED, *SUFFIXES):
        return None
    with _refusing(path, "decoded as a video"), av.open(str(path)) as container:
        stream = next(iter(container.streams.video), None)
        rate = None if stream is None else stream.average_rate
        return None if rate is None else float(rate)


@contextmanager
def _refusing(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file can lead its decoder anywhere
        raise InputError(f"{path} cannot be {what} ({error}); it may be damaged, or of another kind.") from error


def _in_folder(path: Path) -> "Iterator[np.ndarray]":
    for name in sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES):
        yield from islice(_animated(name), 1)


def _animated(path: Path) -> "Iterator[np.ndarray]":
    import numpy as np
    from PIL import Image, ImageSequence

    with _refusing(path, "read as a picture"), Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            yield np.asarray(frame.convert("RGB"))


def _in_video(path: Path) -> "Iterator[np.ndarray]":
    import av

    with _refusing(path, "decoded as a video"), av.open(str(path)) as container:
        if container.streams.video:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
