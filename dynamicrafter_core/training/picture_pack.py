"""All pictures in one file at training size, so that a run reads them in seconds and takes them along to another machine.

    python -m dynamicrafter_core.training.picture_pack     makes it where it is missing, and lists what is in it

A file of safetensors: for each picture the bytes of a WebP image, of a clip one image of all its frames below each other; what they
are stands in the metadata. It is a cache, made from the installed packages, and no part of this repository.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..tensor_files import write_tensors
from .picture_files import PictureFile, find_picture_files

STILL_SIDE, CLIP_SIDE = 320, 128  # pixels of the shorter side
MOST_FRAMES = 48  # of a clip
_LONGEST = 2.0  # the longer side, of the shorter one; the middle is kept
_STILL_QUALITY, _CLIP_QUALITY = 92, 75  # of WebP; a camera looks at a part of a still
_ALIKE = 0.97  # correlation of thumbnails: the same picture under another name
_THUMB = 12


@dataclass(frozen=True)
class Packed:
    name: str
    title: str
    source: str  # package, version and licence
    checksum: str  # sha256 of the file it was made from
    held_out: bool
    rate: float  # frames a second; 0 for a still
    height: int  # of one frame, in pixels


@dataclass(frozen=True)
class Picture:
    packed: Packed
    frames: Tensor  # t 3 h w, uint8; t = 1 for a still


def default_pack(environ: Mapping[str, str] = os.environ) -> Path:
    base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "dynamicrafter" / f"pictures-{STILL_SIDE}-{CLIP_SIDE}.safetensors"


def make_pack(
    path: Path, files: Sequence[PictureFile], tell: Callable[[str], object] = lambda line: None
) -> list[Packed]:
    """Every file as a still (a clip's first frame) and, where it moves, as a clip.

    A training picture that looks like a held-out one is left out, whatever its name: the templates show some pictures twice.
    """

    tensors: dict[str, Tensor] = {}
    made: list[tuple[Packed, np.ndarray]] = []
    for number, file in enumerate(files, 1):
        stills, frames, rate = _read(file.path)
        source = f"{file.package}, {file.licence}"
        for name, shots, speed in ((file.path.name, stills, 0.0), (f"{file.path.name}#clip", frames, rate)):
            if len(shots):
                packed = Packed(name, file.title, source, file.checksum(), file.held_out, speed, shots.shape[1])
                made.append((packed, _thumbnail(stills[0])))
                tensors[name] = _encode(shots)
        if number % 50 == 0 or number == len(files):
            tell(f"packed {number} of {len(files)} pictures")
    held = np.stack([thumb for packed, thumb in made if packed.held_out] or [np.zeros(3 * _THUMB**2)])
    kept = [packed for packed, thumb in made if packed.held_out or float((held @ thumb).max()) < _ALIKE]
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = json.dumps([asdict(packed) for packed in kept])
    write_tensors(path, {packed.name: tensors[packed.name] for packed in kept}, {"pictures": listed})
    return kept


def read_pack(path: Path) -> list[Picture]:
    from PIL import Image
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            listed = [Packed(**each) for each in json.loads((file.metadata() or {})["pictures"])]
            held = {packed.name: file.get_tensor(packed.name).numpy().tobytes() for packed in listed}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a file of packed pictures ({error}); delete it to have it made again."
        ) from error
    pictures = []
    for packed in listed:
        column = np.asarray(Image.open(io.BytesIO(held[packed.name])).convert("RGB")).copy()
        frames = torch.from_numpy(column).unflatten(0, (-1, packed.height))
        pictures.append(Picture(packed, frames.permute(0, 3, 1, 2)))
    return pictures


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """The still, and the frames of a clip with their rate: [1,H,W,3], [T,H,W,3] (T = 0 for a still) and frames a second."""
    from PIL import Image, ImageSequence

    try:
        with Image.open(path) as image:
            still = _fit(image.convert("RGB"), STILL_SIDE)
            frames: list[np.ndarray] = []
            milliseconds = 0
            if getattr(image, "n_frames", 1) > 1:
                for frame in ImageSequence.Iterator(image):
                    if len(frames) == MOST_FRAMES:
                        break
                    frames.append(_fit(frame.convert("RGB"), CLIP_SIDE))
                    milliseconds += int(frame.info.get("duration") or 0)
    except OSError as error:
        raise InputError(f"{path} cannot be read as a picture ({error}); install its package again.") from error
    if not frames:
        return still[None], np.zeros((0, *still.shape), np.uint8), 0.0
    return still[None], np.stack(frames), 1000 * len(frames) / milliseconds if milliseconds else 25.0


def _fit(image: Any, side: int) -> np.ndarray:
    from PIL import Image

    width, height = image.size
    longest = int(_LONGEST * min(width, height))
    wide, tall = min(width, longest), min(height, longest)
    left, top = (width - wide) // 2, (height - tall) // 2
    factor = min(1.0, side / min(wide, tall))
    size = (max(1, round(wide * factor)), max(1, round(tall * factor)))
    box = (left, top, left + wide, top + tall)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS, box))


def _encode(frames: np.ndarray) -> Tensor:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(frames.reshape(-1, *frames.shape[2:])).save(
        held, "WEBP", quality=_STILL_QUALITY if len(frames) == 1 else _CLIP_QUALITY
    )
    return torch.frombuffer(bytearray(held.getvalue()), dtype=torch.uint8)


def _thumbnail(still: np.ndarray) -> np.ndarray:
    """Of length 1 and mean 0, so that a product of two is their correlation."""
    from PIL import Image

    small = np.asarray(Image.fromarray(still).resize((_THUMB, _THUMB), Image.Resampling.BOX), np.float64).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-9)


def open_pack(path: Path | None = None) -> list[Picture]:
    """The pictures packed in this file (by default in the user's cache), which is made where it is not there."""
    path = path or default_pack()
    if not path.exists():
        sys.stderr.write(f"Packing pictures into {path}, once\n")
        make_pack(path, find_picture_files(), lambda line: sys.stderr.write(line + "\n"))
    return read_pack(path)


def main() -> int:
    for picture in open_pack():
        packed = picture.packed
        split = "held-out" if packed.held_out else "training"
        sys.stdout.write(f"{packed.checksum}  {split}  {packed.source}  {packed.name}  {packed.title}\n")
    sys.stdout.write(f"packed in {default_pack()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
