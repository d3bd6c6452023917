"""Videos: several containers and codecs, of no frames, of sound alone, damaged, and those that are larger than they look."""

import contextlib
import io
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Any

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.frames import read_clip, read_rate
from dynamicrafter_core.media.saving import read_settings
from dynamicrafter_core.training.videos import find_items

from .mutation import damaged, name
from .pictures import encoded
from .surface import Finding, Room, Surface

CONTAINERS = {
    "mp4": "libx264",
    "mov": "mpeg4",
    "mkv": "libx264",
    "avi": "mpeg4",
    "webm": "libvpx",
    "gif": "gif",
    "nut": "ffv1",
}
RATES = (1, 8, 25, 240, 1000)


@lru_cache(maxsize=64)
def video(kind: str, frames: int, width: int, height: int, rate: int, colour: int = 90) -> bytes:
    import av
    import numpy as np

    file = io.BytesIO()
    with av.open(file, "w", format={"mkv": "matroska"}.get(kind, kind)) as container:
        container.metadata["comment"] = '{"job": 1}'
        stream: Any = container.add_stream(CONTAINERS[kind], rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = "rgb8" if kind == "gif" else "yuv420p"
        for number in range(frames):
            pixels = np.full((height, width, 3), (colour + 20 * number) % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        if frames:
            container.mux(stream.encode())
    return file.getvalue()


def large() -> bytes:
    return video("mp4", 2, 4096, 4096, 25)


@lru_cache
def sound() -> bytes:
    import av
    import numpy as np

    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def made(chance: Random) -> bytes:
    kind = chance.choice(list(CONTAINERS))
    choice = chance.random()
    if choice < 0.05:
        return sound()
    if choice < 0.08:  # few bytes of H.264 that are many pixels
        return large()
    width, height = chance.choice(((2, 2), (16, 16), (64, 36), (320, 2), (2, 320)))
    try:
        return video(kind, chance.choice((0, 1, 2, 5)), width, height, chance.choice(RATES))
    except Exception:  # an encoder that lacks the size, or a container that takes no empty stream
        return video("mp4", 2, 64, 36, 25)


def make_video(chance: Random, room: Room) -> Callable[[], object]:
    content = made(chance)
    if chance.random() < 0.75:
        content = damaged(content, chance)
    path = room.given / f"clip.{chance.choice([*CONTAINERS, 'mp4', 'webp', 'png', '', 'txt'])}"
    if chance.random() < 0.1:
        path = room.given / "folder.mp4"
        path.mkdir()
        for number in range(chance.randrange(3)):
            (path / f"{number}.png").write_bytes(damaged(encoded(chance), chance))
    else:
        path.write_bytes(content)

    def attempt() -> None:
        for read in (read_settings, read_rate):
            with contextlib.suppress(InputError):
                read(path)
        for frame in read_clip(path, at_most=64):
            if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype.name != "uint8" or not frame.size:
                raise Finding(f"a frame is {frame.dtype} of shape {frame.shape}")

    return attempt


def make_data(chance: Random, room: Room) -> Callable[[], object]:
    """What is trained on: a folder, or a tar, of captioned videos."""
    import tarfile

    path = room.given / "data.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(chance.randrange(1, 4)):
            key = chance.choice(
                (
                    str(number),
                    "../outside/victim",
                    "/tmp/x",
                    name(chance).encode("utf-8", "ignore").decode().replace("\0", "") or "x",
                )
            )
            for suffix, content in ((".mp4", made(chance)), (".txt", chance.choice((b"waves", b"\xff\xfe", b"")))):
                about = tarfile.TarInfo(key + suffix)
                about.type = chance.choice((tarfile.REGTYPE, tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE))
                about.linkname, about.size = "../outside/victim.txt", len(content)
                archive.addfile(about, io.BytesIO(content))
    if chance.random() < 0.6:
        path.write_bytes(damaged(path.read_bytes(), chance))

    def attempt() -> None:
        for item in find_items(path):
            shots = item.open()
            list(shots.read({0, shots.count - 1}))
            item.caption()

    return attempt


VIDEOS = Surface("videos", "7 containers, 0 to 5 frames, audio only, folders; altered bytes", make_video, large)
DATA = Surface(
    "data",
    "tars of captioned training videos: path traversal, links, captions that are not text; altered bytes",
    make_data,
    large,
)
