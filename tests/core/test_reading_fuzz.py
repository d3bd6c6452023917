"""A damaged file is refused in a sentence, whatever the damage.

FUZZ=20000 make test ARGS="tests/core/test_reading_fuzz.py"    the long form; CI takes a few hundred files
"""

import io
import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from dynamicrafter_core.checkpoints.reading import open_file
from dynamicrafter_core.errors import InputError

CASES = int(os.environ.get("FUZZ", "400"))
TENSORS = {"a.weight": torch.arange(12.0).view(3, 4), "b.bias": torch.ones(2, dtype=torch.float16)}


def pickled(zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": TENSORS}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


WHOLE = {
    "safetensors": save(TENSORS, metadata={"format": "pt"}),
    "zip": pickled(zipped=True),
    "pickle": pickled(zipped=False),
}


def damage(content: bytes, chance: random.Random) -> bytes:
    data, spot = bytearray(content), chance.randrange(len(content))
    match chance.randrange(6):
        case 0:
            del data[spot:]
        case 1:
            data[spot] ^= 1 << chance.randrange(8)
        case 2:
            data[spot:spot] = chance.randbytes(chance.randrange(1, 64))
        case 3:
            filler = chance.choice([b" ", b"\n", b"\0", b"\x0b", b"\x1b", b"\xff"])
            data[spot : spot + 64] = filler * len(data[spot : spot + 64])
        case 4:
            data[:8] = chance.randrange(2 ** chance.randrange(1, 64)).to_bytes(8, "little")
        case 5:
            return chance.choice([b" \t\n", b"\x00", b"{}", b"PK\x03\x04", b"\x80\x02"]) * chance.randrange(1, 600)
    return bytes(data)


def read_all(path: Path) -> None:
    for tensor in open_file(path).tensors.values():
        assert tensor.numel() >= 0


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_file_of_this_kind_is_read(kind, tmp_path) -> None:
    path = tmp_path / "whole.ckpt"
    path.write_bytes(WHOLE[kind])
    read = open_file(path).tensors
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("kind", WHOLE)
def test_a_damaged_file_gives_its_tensors_or_a_sentence(kind, tmp_path) -> None:
    chance, path, refused = random.Random(f"{kind}, seed 0"), tmp_path / "damaged.ckpt", 0
    for case in range(CASES // len(WHOLE)):
        content = damage(WHOLE[kind], chance)
        path.unlink(missing_ok=True)  # what was opened before may be mapped still
        path.write_bytes(content)
        try:
            read_all(path)
        except InputError as error:
            assert str(error).startswith(str(path)), case
            assert str(error).isprintable(), case
            refused += 1
    assert refused > CASES // len(WHOLE) // 4


@pytest.mark.parametrize("content", [b" ", b"\n" * 600, b"\t\r\n ", b"\x0b\x0c"])
def test_white_space_is_called_so(content, tmp_path) -> None:
    path = tmp_path / "blank.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="begins with nothing but white space"):
        open_file(path)
