"""Open a checkpoint file of any container, without running code from it and without copying it.

What a file is, its first bytes say, not its name. Tensors are views of the mapped file: pages are read when they are touched
and are given back by `LazyTensors.release`, so that a file larger than memory can be gone through. A file that is not what it
should be is refused here, in one sentence; everything after this trusts what it gets.
"""

import difflib
import json
import os
import pickle
import re
import string
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError

Shapes = Mapping[str, tuple[int, ...]]
Read = Callable[[str], Tensor]  # of a stored key
Connect = Callable[[], Read]  # maps the file

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_ACCEPTED = "a checkpoint is a .safetensors file or one written by torch.save (.ckpt, .pt)"
_AGAIN = "download it again and compare its size with the published one"
_WRAPPERS = {  # where trainers keep the weights inside what they save
    "state_dict": "Lightning checkpoint",
    "module": "DeepSpeed checkpoint",
    "model_state_dict": "training checkpoint",
}
_KEY_PREFIXES = ("_forward_module.", "_orig_mod.", "module.")  # DeepSpeed, torch.compile, DataParallel
_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit


class LazyTensors(Mapping[str, Tensor]):
    """A file's tensors by key; each is a view of the mapped file."""

    def __init__(
        self, names: Mapping[str, str], connect: Connect, read: Read | None = None, mapped: bool = True
    ) -> None:
        self._names = names  # key as it is used here -> key as it is stored
        self._connect = connect
        self._read = read
        self.mapped = mapped

    def __getitem__(self, key: str) -> Tensor:
        name = self._names[key]
        if self._read is None:
            self._read = self._connect()
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def release(self) -> None:
        """Give back the memory of the pages read so far (of tensors no longer held); later access maps the file again."""
        if self.mapped:
            self._read = None


@dataclass(frozen=True)
class Opened:
    path: Path
    container: str  # in words
    tensors: LazyTensors
    shapes: Shapes
    dtypes: Mapping[str, torch.dtype]
    metadata: Mapping[str, str]


def open_file(path: str | os.PathLike[str]) -> Opened:
    """Open `path` and list its tensors; nothing is read but the file's table of contents."""
    path = Path(path)
    _check_exists(path)
    try:
        kind = _sniff(path)
        return _open_safetensors(path) if kind == "safetensors" else _open_torch(path, kind)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; check its permissions and its disk."
        ) from error


def _check_exists(path: Path) -> None:
    if os.path.isdir(path):
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in SUFFIXES)
        hint = f"give a file in it, such as {path / inside[0]}" if inside else "and it holds no checkpoint"
        raise InputError(f"{path} is a folder, not a checkpoint file; {hint}.")
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist; {_near(path)}.")


def _near(path: Path) -> str:
    if not os.path.isdir(path.parent):
        return f"nor does its folder {path.parent}"
    others = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix in SUFFIXES)
    close = difflib.get_close_matches(path.name, others, n=3, cutoff=0.4)
    if close:
        return f"the nearest names in {path.parent}: {' or '.join(close)}"
    return f"the checkpoints in {path.parent} are: {', '.join(others[:5]) or 'none'}"


def _identity(path: Path) -> tuple[int, ...]:
    about = path.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _again(path: Path, connect: Connect) -> Connect:
    """Maps the file again later, if it is still the same: half of one file and half of another make no model."""
    known = _identity(path)

    def connect_again() -> Read:
        try:
            same = _identity(path) == known
        except OSError:
            same = False
        if not same:
            raise InputError(f"{path} was replaced or changed while it was being read; start again.")
        return connect()

    return connect_again


def _sniff(path: Path) -> str:
    """safetensors, zip or pickle by the first bytes; anything else is refused by the name of what it is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    start = head.lstrip().lower()
    header = int.from_bytes(head[:8], "little")
    if not head:
        problem = f"is empty; {_AGAIN}"
    elif head.startswith(b"PK\x03\x04"):
        return "zip"
    elif head.startswith(b"version https://git-lfs"):
        problem = (
            f"is a git-lfs pointer of {size} bytes, not the checkpoint it points to; fetch that with 'git lfs pull'"
        )
    elif start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        problem = "is a web page saved under a checkpoint's name; download the file itself, through its download link"
    elif head[8:9] == b"{" and header <= _HEADER_LIMIT:
        if 8 + header <= size:
            return "safetensors"
        problem = f"is cut short: it has {size} bytes, and its table of contents alone has {8 + header}; {_AGAIN}"
    elif head[:1] == b"\x80":
        return "pickle"
    elif head.startswith(b"GGUF"):
        problem = f"is a GGUF file, which this project does not read; {_ACCEPTED}"
    elif not head.strip(b"\0"):
        problem = f"begins with zeros, as an unfinished download does; {_AGAIN}"
    elif not head.strip():
        problem = f"begins with nothing but white space; {_AGAIN}"
    elif all(byte in string.printable.encode() for byte in head):
        line = head.decode().strip().splitlines()[0][:40]
        problem = f"is a text file (it begins with {line!r}), not a checkpoint; {_ACCEPTED}"
    else:
        problem = f"is not a checkpoint (it begins with the bytes {head[:8].hex(' ')}); {_ACCEPTED}"
    raise InputError(f"{path} {problem}.")


def _open_safetensors(path: Path) -> Opened:
    from safetensors import SafetensorError, safe_open

    def connect() -> Read:
        return safe_open(path, framework="pt").get_tensor

    try:
        with safe_open(path, framework="pt") as file:
            views = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        if "not fully covered" in str(error):
            problem = (
                f"is cut short or damaged: its {path.stat().st_size} bytes are not what its table of contents lists"
            )
        else:
            problem = f"is a damaged safetensors file ({str(error).removeprefix('Error while deserializing header: ')})"
        raise InputError(f"{path} {problem}; {_AGAIN}.") from error
    return _opened(path, "safetensors file", views, connect, metadata)


def _open_torch(path: Path, kind: str) -> Opened:
    mapped = kind == "zip"
    if mapped:
        _check_archive(path)
    loaded = _torch_load(path, mapped)
    container, state, metadata = _unwrap(path, loaded)
    if not mapped:
        container += " of an old format that must be read whole"

    def connect() -> Read:
        return _unwrap(path, _torch_load(path, mapped))[1].__getitem__

    return _opened(path, container, state, connect, metadata, state.__getitem__, mapped)


def _check_archive(path: Path) -> None:
    try:
        whole = zipfile.is_zipfile(path)  # the list of contents is a zip's last part
        names = _names_in(path) if whole else []
    except OSError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    if not whole:
        raise InputError(f"{path} is cut short: it ends after {path.stat().st_size} bytes; {_AGAIN}.")
    if not any(name.endswith("data.pkl") for name in names):
        held = ", ".join(names[:3]) or "nothing"
        raise InputError(f"{path} is a zip archive holding {held}, not a checkpoint; unpack it, or give another file.")


def _names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _torch_load(path: Path, mapped: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        wish = f"wants to run or build {found[1]}" if found else "holds more than tensors"
        raise InputError(
            f"{path} is refused because it {wish}, and a checkpoint must be safe to open; get it as .safetensors, or "
            "if you trust its maker, save its bare state_dict with torch.save first."
        ) from error
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can lead its reader anywhere
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return InputError(f"{path} is cut short or damaged ({reason}); {_AGAIN}.")


def _unwrap(path: Path, loaded: Any) -> tuple[str, Mapping[str, Tensor], dict[str, str]]:
    """The state dict inside what a trainer saved, what kind of file that is, and the plain values beside it."""
    if isinstance(loaded, list) and loaded and all(isinstance(value, Tensor) for value in loaded):
        raise InputError(
            f"{path} is a list of {len(loaded)} tensors without names, as T2V-Turbo's LoRA (unet_lora.pt) is, and nothing "
            "says where they belong; give a whole UNet, such as T2V-Turbo-v2's unet_mg.pt."
        )
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path} holds a {type(loaded).__name__}, not a dictionary of tensors; {_ACCEPTED}.")
    kind, state = "bare state dict", loaded
    for name, words in _WRAPPERS.items():
        if isinstance(loaded.get(name), Mapping):
            kind, state = words, loaded[name]
            break
    tensors = {
        key: value.detach() for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)
    }
    for key, value in tensors.items():
        _check_plain(path, key, value)
    plain = {key: value for key, value in loaded.items() if isinstance(key, str)}
    metadata = {key: str(value) for key, value in plain.items() if isinstance(value, (str, int, float))}
    metadata |= (
        {"dynamicrafter": json.dumps(loaded["dynamicrafter"])} if isinstance(loaded.get("dynamicrafter"), dict) else {}
    )
    return f"torch.save file, {kind}", tensors, metadata


def _check_plain(path: Path, key: str, tensor: Tensor) -> None:
    """A pickle can hold tensors that are no weights, and small ones that say they are large."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        kind = str(tensor.layout if tensor.device.type == "cpu" else tensor.device.type).removeprefix("torch.")
        problem = f"as a {'quantised' if tensor.is_quantized else kind} tensor"
    elif tensor.nbytes > tensor.untyped_storage().nbytes():
        problem = f"of shape {list(tensor.shape)}, with fewer numbers than that"
    else:
        return
    raise InputError(f"{path} holds {key} {problem}; save its weights as plain tensors, each with numbers of its own.")


def _opened(
    path: Path,
    container: str,
    views: Mapping[str, Tensor],
    connect: Connect,
    metadata: Mapping[str, str],
    read: Read | None = None,
    mapped: bool = True,
) -> Opened:
    if not views:
        raise InputError(f"{path} holds no tensors; {_ACCEPTED}.")
    prefix = next((prefix for prefix in _KEY_PREFIXES if all(key.startswith(prefix) for key in views)), "")
    names = {key.removeprefix(prefix): key for key in views}
    return Opened(
        path=path,
        container=container,
        tensors=LazyTensors(names, _again(path, connect), read, mapped),
        shapes={key: tuple(views[name].shape) for key, name in names.items()},
        dtypes={key: views[name].dtype for key, name in names.items()},
        metadata=metadata,
    )
