"""A checkpoint of any container into safetensors of another dtype: whole, without the CLIP towers, or a file for each part.

Tensors go from the mapped source to the target a few megabytes at a time, so that memory stays small whatever the model's size.
The targets appear when all are written, or not at all.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import torch
from torch import Tensor

from ..atomic import check_writable, written_whole
from ..errors import InputError
from ..families import Family, find_family
from ..part_names import PARTS, PREFIXES, PartName
from .checkpoint import RELEASE_EVERY, Checkpoint, Source, load_checkpoint
from .detection import read_own_metadata
from .fitting import UNUSED_IN_VISION

DType = Literal["fp16", "bf16", "fp32", "keep"]
Layout = Literal["whole", "pruned", "split"]
Progress = Callable[[int, int], None]  # bytes written, bytes in all

_DTYPES: Mapping[str, torch.dtype | None] = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "keep": None,
}
_PRUNED: tuple[PartName, ...] = ("text", "vision")  # the host, or another file, has them
_PIECE = 4 * 2**20  # elements converted at a time

_FORMAT_NAMES = {  # of the safetensors format
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class _Entry:
    name: str  # in the target
    source: Source
    key: str  # in the source
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.opened.shapes[self.source.names[self.key]]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    dtype: DType = "fp16",
    layout: Layout = "whole",
    variant: str | Family = "auto",
    on_progress: Progress | None = None,
    overwrite: bool = False,
    extra: Iterable[str | os.PathLike[str]] = (),
) -> tuple[Path, ...]:
    """Writes `target`, or for layout "split" a file beside it for each part (x.unet.safetensors, ...); the files written.

    "whole" writes all parts there are under their released names, "pruned" leaves the CLIP towers out. The stored schedule
    stays float32. The variant stands in the metadata, unless nothing tells which it is.
    """
    if dtype not in _DTYPES or layout not in get_args(Layout):
        raise InputError(
            f"dtype is {dtype!r} and layout is {layout!r}; give a dtype of {', '.join(_DTYPES)} and a layout of "
            f"{', '.join(get_args(Layout))}."
        )
    checkpoint = load_checkpoint(source, variant, extra)
    return write_checkpoint(checkpoint, [source, *extra], target, dtype, layout, on_progress, overwrite)


def write_checkpoint(
    checkpoint: Checkpoint,
    sources: Iterable[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    dtype: DType = "fp16",
    layout: Layout = "whole",
    on_progress: Progress | None = None,
    overwrite: bool = False,
    about: Mapping[str, Any] | None = None,
) -> tuple[Path, ...]:
    """`sources` are the files it is read from, none of which may be the target; `about` goes into the metadata."""
    plan = _plan(checkpoint, Path(target), dtype, layout)
    for path in plan:
        _check_target(path, map(Path, sources), overwrite)
    total = sum(entry.nbytes for entries in plan.values() for entry in entries)
    free = shutil.disk_usage(Path(target).parent).free
    if total > free:
        raise InputError(
            f"{target} needs {total / 1e9:.2f} GB and its disk has {free / 1e9:.2f} GB free; make room, give another folder, "
            "or convert to fp16 or with layout 'pruned'."
        )

    metadata = _metadata(checkpoint, about or {})
    done = 0
    with ExitStack() as stack:
        for path, entries in plan.items():
            part = stack.enter_context(written_whole(path))
            with part.open("xb") as file:
                for size in _write(file, entries, metadata):
                    done += size
                    if on_progress:
                        on_progress(done, total)
    return tuple(plan)


def _plan(checkpoint: Checkpoint, target: Path, dtype: DType, layout: Layout) -> dict[Path, list[_Entry]]:
    """What goes in which file."""
    wanted = _DTYPES[dtype]

    def entries(part: PartName, prefix: str, keys: Iterable[str]) -> list[_Entry]:
        source = checkpoint.sources[part]
        return [_Entry(prefix + key, source, key, _dtype(source.dtype(key), wanted)) for key in keys]

    if layout == "split":
        plan = {}
        for part, source in checkpoint.sources.items():
            unused = UNUSED_IN_VISION if part == "vision" else ()
            path = target.with_name(f"{target.stem}.{part}{target.suffix}")
            plan[path] = entries(part, "", (key for key in source.names if key not in unused))
        return plan
    buffers = checkpoint.buffers
    whole = [_Entry(name, buffers, name, buffers.dtype(name)) for name in buffers.names]
    for part, source in checkpoint.sources.items():
        if not (layout == "pruned" and part in _PRUNED):
            whole += entries(part, PREFIXES[part], source.names)
    return {target: whole}


def _dtype(stored: torch.dtype, wanted: torch.dtype | None) -> torch.dtype:
    return wanted if wanted is not None and stored.is_floating_point else stored


def _check_target(path: Path, sources: Iterable[Path], overwrite: bool) -> None:
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path} cannot be the result, because that is a safetensors file; give a name that ends in .safetensors."
        )
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; give the name of a file in it, such as {path / 'model.safetensors'}.")
    if os.path.exists(path):
        if any(path.samefile(source) for source in sources):
            raise InputError(f"{path} is the file to be converted; give the result another name.")
        if not overwrite:
            raise InputError(f"{path} exists; give another name, or allow overwriting it.")
    check_writable(path)


def _metadata(checkpoint: Checkpoint, about: Mapping[str, Any]) -> dict[str, str]:
    """What the source says of itself, with the variant found and the figures in which it is not the released one."""
    first = next(iter(checkpoint.sources.values())).opened
    kept = dict(first.metadata) if first.container.startswith("safetensors") else {}
    own: dict[str, Any] = {**about}
    if not checkpoint.detection.ambiguous:
        own["family"] = checkpoint.family.name
    released = find_family(checkpoint.detection.name)
    names = [field.name for field in fields(Family) if field.name not in PARTS]
    figures = {name: getattr(checkpoint.family, name) for name in names}
    own["figures"] = {name: value for name, value in figures.items() if value != getattr(released, name)}
    for part, source in checkpoint.sources.items():
        own[part] = read_own_metadata(source.opened.metadata).get(part)
    stated = {name: value for name, value in own.items() if value}
    return {**kept, "format": "pt", "dynamicrafter": json.dumps(stated)}


def _write(file: BinaryIO, entries: list[_Entry], metadata: Mapping[str, str]) -> Iterator[int]:
    """Header, then the tensors; yields the size of every piece of them written."""
    entries = sorted(entries, key=lambda entry: -entry.dtype.itemsize)  # so that each is aligned to its elements
    ends = list(accumulate((entry.nbytes for entry in entries), initial=0))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    for entry, start, end in zip(entries, ends, ends[1:], strict=False):
        if entry.dtype not in _FORMAT_NAMES:
            raise InputError(f"{entry.name} is of dtype {entry.dtype}, which safetensors cannot hold; convert to fp16.")
        header[entry.name] = {
            "dtype": _FORMAT_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)

    passed = 0
    for entry in entries:
        for piece in entry.source.tensor(entry.key).reshape(-1).split(_PIECE):
            converted = _converted(piece, entry)
            file.write(converted.view(torch.uint8).numpy().data)
            yield converted.nbytes
            passed += piece.nbytes
        if passed > RELEASE_EVERY:
            del piece, converted
            entry.source.release()
            passed = 0


def _converted(piece: Tensor, entry: _Entry) -> Tensor:
    converted = piece.to(entry.dtype).contiguous()
    wider = piece.dtype in (torch.float32, torch.float64, torch.bfloat16)
    if wider and entry.dtype == torch.float16 and converted.isinf().any() and not piece.isinf().any():
        raise InputError(
            f"{entry.name} holds {piece.abs().max().item():.4g}, beyond the 65504 that fp16 can hold; convert to bf16."
        )
    return converted
