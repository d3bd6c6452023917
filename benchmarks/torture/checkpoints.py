"""Checkpoint files: safetensors whose table of contents lies, pickles that want to run something, zips and tars full of tricks."""

import io
import json
import os
import pickle
import pickletools
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Any

import torch
from safetensors.torch import save

from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
from dynamicrafter_core.checkpoints.inspection import describe
from dynamicrafter_core.checkpoints.reading import open_file
from dynamicrafter_core.families import FAMILIES
from dynamicrafter_core.models.parts import shapes_of
from dynamicrafter_core.part_names import PREFIXES
from dynamicrafter_core.pipeline.settings import settle

from . import canary
from .mutation import altered, damaged, name, number, text, value
from .surface import Finding, Room, Surface

TENSORS = {"a.weight": torch.arange(12.0).view(3, 4), "b.bias": torch.ones(2, dtype=torch.float16)}
SUFFIXES = (".ckpt", ".safetensors", ".pt", "")


def read_all(path: "os.PathLike[str]") -> None:
    """All that is done with a checkpoint before its weights are used: opened, described, recognised, each tensor read."""
    opened = open_file(path)
    for key, tensor in opened.tensors.items():
        if tuple(tensor.shape) != opened.shapes[key]:
            raise Finding(f"a tensor is not of the shape that was told: {tensor.shape}, {opened.shapes[key]}")
        tensor.reshape(-1)[:4].tolist()
        tensor.reshape(-1)[-4:].tolist()
    opened.tensors.release()
    json.dumps(describe(path))
    checkpoint = load_checkpoint(path)
    for part in checkpoint.parts:
        checkpoint.load(part)
    family = checkpoint.family
    family.schedule()
    settle(family, "animate", "", {}, None, 8)


@lru_cache
def family_header() -> dict[str, Any]:
    """The table of contents of a UNet and a projector of a real variant, thin, so that recognition has something to do."""
    from dataclasses import replace

    family = FAMILIES["dynamicrafter_512"]
    unet = replace(
        family.unet,
        model_channels=32,
        head_channels=16,
        context_dim=64,
        channel_mult=(1, 2),
        res_blocks=1,
        attention_levels=(0,),
    )
    shapes = {PREFIXES["unet"] + key: shape for key, shape in shapes_of(unet).items()}
    header: dict[str, Any] = {}
    end = 0
    for key, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    header["__metadata__"] = {
        "dynamicrafter": json.dumps({"family": "dynamicrafter_512", "figures": {"width": 24, "height": 16}, "unet": {}})
    }
    return header


def family_file(header: dict[str, Any], size: int) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


def make_safetensors(chance: Random, room: Room) -> Callable[[], object]:
    path = room.given / f"model{chance.choice(SUFFIXES)}"
    if chance.random() < 0.3:
        path.write_bytes(damaged(save(TENSORS, metadata={"format": "pt"}), chance))
    else:
        path.write_bytes(wrong_header(chance))
    return lambda: read_all(path)


def wrong_header(chance: Random) -> bytes:
    whole = family_header()
    if chance.random() < 0.5:
        content = save(TENSORS, metadata={"format": "pt"})
        length = struct.unpack("<Q", content[:8])[0]
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    else:
        header = dict(whole)
        data = bytes(max(entry["data_offsets"][1] for key, entry in whole.items() if key != "__metadata__"))
    keys = [key for key in header if key != "__metadata__"]
    for _ in range(chance.choice((1, 1, 2, 5))):
        key = chance.choice(keys)
        match chance.randrange(10):
            case 0:
                header[key] = altered(header.get(key), chance)
            case 1:
                header[key] = {**entry_of(header, key), "shape": [number(chance) for _ in range(chance.randrange(6))]}
            case 2:
                header[key] = {**entry_of(header, key), "shape": [0, chance.choice((2**62, 2**63, 2**64 - 1))]}
            case 3:
                header[key] = {
                    **entry_of(header, key),
                    "dtype": chance.choice(("F64", "BF16", "I8", "BOOL", "F8_E4M3", "C64", "F4", "U64", "")),
                }
            case 4:
                header[key] = {**entry_of(header, key), "data_offsets": [number(chance), number(chance)]}
            case 5:
                header[chance.choice((name, text))(chance)] = header.pop(key, None)
            case 6:
                header["__metadata__"] = {"dynamicrafter": json.dumps(altered(own_metadata(), chance), default=str)}
            case 7:
                header["__metadata__"] = altered(header.get("__metadata__"), chance)
            case 8:
                header.pop(key, None)
            case 9:
                shape = header.get(key, {}).get("shape", []) if isinstance(header.get(key), dict) else []
                if isinstance(shape, list) and shape:
                    header[key] = {**header[key], "shape": [*shape[1:], shape[0]]}
    written = json.dumps(header).encode()
    if chance.random() < 0.1:
        written = damaged(written, chance)
    if chance.random() < 0.05:
        written = b"{" + b'"a":[' * 100_000 + written
    length = (
        len(written)
        if chance.random() < 0.9
        else chance.choice((0, 1, len(written) - 1, len(written) + 1, 2**31, 2**63, 2**64 - 1))
    )
    return struct.pack("<Q", length) + written + data


def entry_of(header: dict[str, Any], key: str) -> dict[str, Any]:
    entry = header.get(key)
    return entry if isinstance(entry, dict) else {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def own_metadata() -> dict[str, Any]:
    figures = {
        "width": 24,
        "height": 16,
        "frames": 16,
        "steps": 4,
        "cfg": 7.5,
        "modes": ["animate"],
        "base_scale": 0.7,
        "fs_range": [1, 30],
    }
    return {
        "family": "dynamicrafter_512",
        "figures": figures,
        "unet": {"norm_groups": 32, "default_fs": 3, "causal": False},
        "text": {"heads": 1},
    }


class Calls:
    """A pickle of this calls that when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def payload(chance: Random) -> Any:
    code = "import benchmarks.torture.canary as c; c.sing('code')"
    return Calls(
        *chance.choice(
            [
                (canary.sing, "called"),
                (exec, code),
                (eval, "__import__('benchmarks.torture.canary').torture.canary.sing('eval')"),
                (os.system, "echo sung"),
                (open, "sung.txt", "w"),
                (torch.load, "/dev/null"),
                (torch.hub.load, "a/b", "c"),
                (bytearray, 2**40),
                (torch.zeros, 2**40),
                (io.open, "sung.txt", "w"),
            ]
        )
    )


def make_pickle(chance: Random, room: Room) -> Callable[[], object]:
    path = room.given / f"model{chance.choice(SUFFIXES)}"
    kinds = (
        damaged_pickle,
        damaged_pickle,
        with_payload,
        shuffled_opcodes,
        tricky_zip,
        tricky_zip,
        tricky_tar,
        strange_content,
    )
    path.write_bytes(chance.choice(kinds)(chance))
    return lambda: read_all(path)


def saved(content: Any, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def damaged_pickle(chance: Random) -> bytes:
    return damaged(saved({"state_dict": TENSORS, "epoch": 3}, chance.random() < 0.5), chance)


def with_payload(chance: Random) -> bytes:
    content = altered({"state_dict": {"a": 1}, "epoch": 3}, chance)
    place = {"state_dict": {**TENSORS, "evil": payload(chance)}, "callbacks": payload(chance), "rest": str(content)}
    if chance.random() < 0.3:
        return pickle.dumps(place, protocol=chance.randrange(6))
    return saved(place, chance.random() < 0.5)


def strange_content(chance: Random) -> bytes:
    """What torch.save can write, and no checkpoint is."""
    tensors: list[Any] = [
        torch.zeros(1).expand(2**40),
        torch.zeros(3, 4).T[1:],
        torch.zeros(2, 3).to_sparse(),
        torch.tensor(5),
        torch.zeros(0, 2**40),
        torch.zeros(2, dtype=torch.complex64),
        torch.nn.Parameter(torch.ones(2)),
        torch.full((3,), float("nan")),
        torch.zeros(2, device="meta"),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ]
    names: list[Any] = [text(chance), name(chance), 5, None, ("a", "b"), *list(family_header())[:3]]
    state: Any = {chance.choice(names): chance.choice([*tensors, value(chance)]) for _ in range(chance.randrange(1, 5))}
    wrapped = chance.choice(
        [
            state,
            {"state_dict": state},
            {"module": state, "dynamicrafter": value(chance)},
            list(state.values()),
            {"model_state_dict": state},
        ]
    )
    try:
        return saved(wrapped, chance.random() < 0.5)
    except (RuntimeError, NotImplementedError, AttributeError):  # legacy files cannot hold all of them
        return saved(wrapped, True)


def shuffled_opcodes(chance: Random) -> bytes:
    """The pickle's own instructions, some left out, doubled, moved or exchanged, in a zip that is otherwise right."""
    file = io.BytesIO(saved({"state_dict": TENSORS}, True))
    with zipfile.ZipFile(file) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    key = next(entry for entry in members if entry.endswith("data.pkl"))
    starts = [position for _, _, position in pickletools.genops(members[key])] + [len(members[key])]
    pieces = [members[key][a:b] for a, b in zip(starts, starts[1:], strict=False)]
    for _ in range(chance.randrange(1, 6)):
        a, b = chance.randrange(len(pieces)), chance.randrange(len(pieces))
        match chance.randrange(4):
            case 0:
                pieces[a], pieces[b] = pieces[b], pieces[a]
            case 1:
                pieces.insert(a, pieces[b])
            case 2:
                pieces[a] = bytes([chance.randrange(256)])
            case 3:
                pieces[a] = b""
    members[key] = b"".join(pieces)
    return zipped(members)


def zipped(members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for entry, content in members.items():
            archive.writestr(entry, content)
    return file.getvalue()


def tricky_zip(chance: Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved({"state_dict": TENSORS}, True))) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    match chance.randrange(7):
        case 0:  # names that lead out
            members = {**members, **{name(chance).replace("\ud800", "_"): b"x" for _ in range(3)}}
        case 1:  # a bomb: what unpacks to very much
            members["archive/data/9"] = bytes(2**26)
            return zipped(members, zipfile.ZIP_DEFLATED)
        case 2:  # packed, which torch's mapping does not expect
            return zipped(members, zipfile.ZIP_DEFLATED)
        case 3:
            members = {
                entry.replace("archive", name(chance).replace("\ud800", "_")): content
                for entry, content in members.items()
            }
        case 4:
            members.pop(chance.choice(list(members)))
        case 5:
            key = chance.choice(list(members))
            members[key] = damaged(members[key], chance)
        case 6:
            content = bytearray(zipped(members))  # the list of contents, at the end
            place = content.rfind(b"PK\x01\x02")
            return bytes(content[:place]) + damaged(bytes(content[place:]), chance)
    try:
        return zipped(members)
    except (ValueError, IndexError, struct.error):  # names that no zip can hold
        return b"PK\x03\x04" + chance.randbytes(99)


def tricky_tar(chance: Random) -> bytes:
    """torch's oldest container."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for entry in (
            chance.choice(("../outside/victim.txt", "storages", "/tmp/x", "tensors", "pickle")) for _ in range(3)
        ):
            about = tarfile.TarInfo(entry)
            about.type = chance.choice((tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE))
            about.linkname = "../outside/victim.txt"
            content = pickle.dumps(payload(chance))
            about.size = len(content) if about.type == tarfile.REGTYPE else 0
            archive.addfile(about, io.BytesIO(content))
    return damaged(file.getvalue(), chance) if chance.random() < 0.3 else file.getvalue()


SAFETENSORS = Surface(
    "safetensors",
    "headers with altered names, shapes, dtypes, offsets and metadata; altered bytes",
    make_safetensors,
)
PICKLE = Surface(
    "pickle",
    "torch.save files: altered bytes and opcodes, code calls, malicious zips and tars, decompression bombs",
    make_pickle,
)
