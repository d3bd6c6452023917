"""Clips from videos with captions: a folder, or tar files as webdataset writes them.

    folder      clip.mp4 beside clip.txt (its caption), or a folder clip/ of frames beside clip.txt; subfolders count too
    tar         the same names in a .tar; several tars may lie in the folder

Every clip is a random stretch at a random frame stride, resized and cropped to the size asked for.
"""

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .clips import Clips
from .seeds import generator

VIDEOS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif")
IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_HELD_OUT = 20  # every twentieth is kept from training, where there are so many


@dataclass(frozen=True)
class Item:
    name: str
    open: Callable[[], "_Video | _Frames"]
    caption: Callable[[], str]


class VideoClips:
    """A source of clips, as ProceduralClips is: `source(split, numbers)`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        height: int,
        width: int,
        frames: int,
        strides: Sequence[int] = (1, 6),
        fs_meaning: Literal["fps", "frame stride"] = "fps",
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.height, self.width, self.frames = height, width, frames
        self.strides, self.fs_meaning, self.seed, self.device = strides, fs_meaning, seed, device
        items = find_items(Path(path))
        if not items:
            raise InputError(
                f"{path} holds no captioned video: give clip.mp4 beside clip.txt, or tar files of such pairs."
            )
        held = items[::_HELD_OUT] if len(items) >= _HELD_OUT else []
        names = {item.name for item in held}
        self.items = {"held-out": held or items, "train": [item for item in items if item.name not in names]}

    def __call__(self, split: str, numbers: Sequence[int]) -> Clips:
        items = self.items["held-out" if split != "train" else "train"]
        made = [self._clip(items[self._index(split, number, len(items))], split, number) for number in numbers]
        pixels = torch.stack([pixels for pixels, _, _ in made]).to(self.device)
        return Clips(
            pixels, [caption for _, caption, _ in made], torch.tensor([fs for *_, fs in made], device=self.device)
        )

    def _index(self, split: str, number: int, count: int) -> int:
        """Every item once before any comes again, each time in another order."""
        turn, place = divmod(number, count)
        return int(torch.randperm(count, generator=generator(self.seed, split, "order", turn))[place])

    def _clip(self, item: Item, split: str, number: int) -> tuple[Tensor, str, int]:
        shots = item.open()
        chance = torch.rand(2, generator=generator(self.seed, split, "stretch", number)).tolist()
        low, high = self.strides[0], self.strides[-1]
        longest = max(1, (shots.count - 1) // max(1, self.frames - 1))
        stride = max(1, min(low + int(chance[0] * (high - low + 1)), longest))
        room = max(0, shots.count - 1 - stride * (self.frames - 1))
        first = int(chance[1] * (room + 1))
        places = [min(first + stride * index, shots.count - 1) for index in range(self.frames)]
        fitted = {place: fit_frame(frame, self.height, self.width) for place, frame in shots.read(set(places))}
        pixels = torch.stack([fitted.get(place, fitted[places[-1]]) for place in places], 1)  # 3 t h w
        fs = max(1, round(shots.rate / stride)) if self.fs_meaning == "fps" else stride
        return pixels, item.caption().strip(), fs


def find_items(path: Path) -> list[Item]:
    """Everything captioned under `path` (a folder or a tar), in the order of names."""
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist; give a folder of captioned videos, or a tar of them.")
    if os.path.isfile(path):
        return _in_tar(path)
    found: list[Item] = []
    for text in sorted(path.rglob("*.txt")):
        stem = text.with_suffix("")
        video = next((stem.with_suffix(suffix) for suffix in VIDEOS if os.path.isfile(stem.with_suffix(suffix))), None)
        read = _decoded(text.read_bytes, text)
        if video is not None:
            found.append(Item(str(video), _later(_Video, video), read))
        elif os.path.isdir(stem):
            shots = sorted(file for file in stem.iterdir() if file.suffix.lower() in IMAGES)
            if shots:
                found.append(Item(str(stem), _later(_Frames, shots), read))
    for archive in sorted(path.rglob("*.tar")):
        found += _in_tar(archive)
    return found


def _in_tar(path: Path) -> list[Item]:
    """Members of one key (the name up to its first dot) belong together, as webdataset has it."""
    try:
        with tarfile.open(path, "r:") as archive:  # uncompressed: members are read in place
            members = [(m.name, m.offset_data, m.size) for m in archive.getmembers() if m.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as an uncompressed tar file ({error}); pack the videos again, uncompressed."
        ) from error
    groups: dict[str, dict[str, tuple[int, int]]] = {}
    for name, offset, size in members:
        folder, _, base = name.rpartition("/")
        key, _, suffix = base.partition(".")
        groups.setdefault(f"{folder}/{key}", {})["." + suffix.lower()] = (offset, size)
    found = []
    for key, files in sorted(groups.items()):
        video = next((suffix for suffix in VIDEOS if suffix in files), None)
        if video and ".txt" in files:
            read_text = _later(_read_part, path, *files[".txt"])
            found.append(
                Item(
                    f"{path}/{key}",
                    _later(_video_in_tar, path, *files[video]),
                    _decoded(read_text, f"{path}/{key}.txt"),
                )
            )
    return found


def _later(function: Callable[..., Any], *arguments: Any, **named: Any) -> Callable[[], Any]:
    return lambda: function(*arguments, **named)


def _decoded(read: Callable[[], bytes], name: object) -> Callable[[], str]:
    def decoded() -> str:
        try:
            return read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not UTF-8 text ({error}); save the caption as UTF-8.") from error
        except OSError as error:
            raise InputError(
                f"{name} cannot be read ({error.strerror}); check its permissions and its disk."
            ) from error

    return decoded


def _read_part(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _video_in_tar(path: Path, offset: int, size: int) -> "_Video":
    return _Video(io.BytesIO(_read_part(path, offset, size)))


class _Video:
    """A video file, of which no more is kept than is asked for: it may be hours long."""

    def __init__(self, file: Any) -> None:
        self.file = file
        with self._opened() as (container, stream):
            self.rate = float(stream.average_rate or 25)
            self.count = max(1, sum(1 for packet in container.demux(stream) if packet.size))

    @property
    def name(self) -> str:
        return str(self.file) if isinstance(self.file, Path) else "the tar's video"

    def read(self, places: set[int]) -> Iterator[tuple[int, Tensor]]:
        """These frames, uint8 [H,W,3], with their places; the last one there is, where the file says more than it holds."""
        left, frame = max(places), None
        with self._opened() as (container, stream):
            for place, frame in enumerate(container.decode(stream)):
                if place in places:
                    yield place, torch.from_numpy(frame.to_ndarray(format="rgb24"))
                if place == left:
                    return
        if frame is None:
            raise InputError(f"{self.name} holds no frames; remove it from the data.")
        yield left, torch.from_numpy(frame.to_ndarray(format="rgb24"))

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        import av

        try:
            if not isinstance(self.file, Path):
                self.file.seek(0)
            with av.open(str(self.file) if isinstance(self.file, Path) else self.file) as container:
                yield container, container.streams.video[0]
        except InputError:
            raise
        except Exception as error:  # a damaged file can lead its decoder anywhere
            raise InputError(
                f"{self.name} cannot be decoded ({error}); remove it from the data, or encode it again."
            ) from error


class _Frames:
    """A folder of frames, read as a video of 30 frames a second."""

    rate = 30.0

    def __init__(self, files: list[Path]) -> None:
        self.files, self.count = files, len(files)

    def read(self, places: set[int]) -> Iterator[tuple[int, Tensor]]:
        import numpy as np
        from PIL import Image

        for place in places:
            yield place, torch.from_numpy(np.asarray(Image.open(self.files[place]).convert("RGB")).copy())


def fit_frame(frame: Tensor, height: int, width: int) -> Tensor:
    """uint8 [H,W,3] -> [3,height,width] in -1..1: scaled to cover, then cut to the middle."""
    pixels = frame.permute(2, 0, 1)[None].float() / 127.5 - 1
    factor = max(height / pixels.shape[2], width / pixels.shape[3])
    size = (max(height, round(pixels.shape[2] * factor)), max(width, round(pixels.shape[3] * factor)))
    pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return pixels[0, :, top : top + height, left : left + width].clamp(-1, 1)
