"""Whatever bytes a file holds, opening it gives its tensors or a sentence that refuses it.

A few hundred damaged files, always the same ones. FUZZ=20000 in the environment runs the long form, with as many.
"""

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dynamicrafter_core.checkpoints.reading import open_file
from dynamicrafter_core.errors import InputError

CASES = int(os.environ.get("FUZZ", 600))
STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2, dtype=torch.bfloat16)}
BLANKS = b" \t\r\n\x0b\x0c"
CONTROLS = bytes(range(32)) + b"\x7f"
BEGINNINGS = (b"", b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04}", b"GGUF", b"<html", b'{"', b"\x10\0\0\0\0\0\0\0{")
LENGTHS = (0, 1, 2, 7, 8, 100, 2**16, 99_999_999, 100_000_000, 100_000_001, 2**31, 2**32, 2**63, 2**64 - 1)

Damage = Callable[[bytearray, random.Random], None]


def truncate(content: bytearray, dice: random.Random) -> None:
    del content[dice.randrange(len(content) + 1) :]


def flip(content: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 8)):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def insert(content: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(content) + 1)
    content[at:at] = dice.randbytes(dice.randint(1, 16))


def overwrite(content: bytearray, dice: random.Random) -> None:
    """With blanks or control characters; a whole file of them, now and then."""
    of = dice.choice([BLANKS, CONTROLS, b"\0", b" ", b"\n"])
    start = dice.choice([0, dice.randrange(len(content))])
    end = dice.choice([len(content), min(len(content), start + dice.randint(1, 64))])
    content[start:end] = bytes(dice.choices(of, k=end - start))


def lie_about_length(content: bytearray, dice: random.Random) -> None:
    """In the 8 bytes that begin a safetensors file, or wherever else a length may stand."""
    length = dice.choice([*LENGTHS, len(content) - 8, len(content), dice.randrange(2 * len(content))]) % 2**64
    start = dice.choice([0, dice.randrange(len(content))])
    width = dice.choice([1, 4, 8])
    content[start : start + width] = length.to_bytes(8, "little")[:width]


DAMAGES: tuple[Damage, ...] = (truncate, flip, insert, overwrite, lie_about_length)


def whole_files(folder: Path) -> list[bytes]:
    path = folder / "whole"
    contents = [pickle.dumps({"state_dict": {"a": [1.0, "b"]}}, protocol=2)]
    save_file(STATE, path, metadata={"made": "here"})
    contents.append(path.read_bytes())
    for zipped in (True, False):
        torch.save({"state_dict": STATE, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
        contents.append(path.read_bytes())
    return contents


def short_file(dice: random.Random) -> bytes:
    of = dice.choice([BLANKS, CONTROLS, bytes(range(256)), bytes(range(32, 127)), b"\0"])
    return dice.choice(BEGINNINGS) + bytes(dice.choices(of, k=dice.randrange(40)))


def damaged_file(contents: list[bytes], dice: random.Random) -> bytes:
    if dice.random() < 0.2:
        return short_file(dice)
    content = bytearray(dice.choice(contents))
    for _ in range(dice.randint(1, 3)):
        if content:
            dice.choice(DAMAGES)(content, dice)
    return bytes(content)


def outcome(path: Path, content: bytes) -> str:
    """What became of it: "opened", "refused", or what else came out."""
    path.unlink(missing_ok=True)  # a new file: the last one may still be mapped
    path.write_bytes(content)
    try:
        opened = open_file(path)
        for key, tensor in opened.tensors.items():
            assert tuple(tensor.shape) == opened.shapes[key]
            tensor.clone()
    except InputError as error:
        sentence = str(error)
        whole = str(path) in sentence and sentence.endswith(".") and sentence.isprintable()
        return "refused" if whole else f"no sentence: {sentence!r}"
    except BaseException as error:  # a panic of safetensors is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {error}"
    return "opened"


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_opened_or_refused_in_a_sentence(tmp_path: Path) -> None:
    dice, contents = random.Random(0), whole_files(tmp_path)
    seen = {"opened": 0, "refused": 0}
    for case in range(CASES):
        content = damaged_file(contents, dice)
        became = outcome(tmp_path / "file.ckpt", content)
        assert became in seen, f"case {case} of {len(content)} bytes, {content[:64]!r}...: {became}"
        seen[became] += 1
    assert min(seen.values()) > CASES / 50  # else the damage is too small, or too great, to tell anything


def test_undamaged_files_are_opened(tmp_path: Path) -> None:
    refused, *others = [outcome(tmp_path / "file.ckpt", content) for content in whole_files(tmp_path)]
    assert refused == "refused"  # it holds no tensors
    assert others == ["opened"] * 3


@pytest.mark.parametrize("content", [b"", b" ", b" " * 600, b"\n" * 9, BLANKS, b"\0" * 9, CONTROLS, b"\0 \n" * 9])
def test_files_without_a_letter_are_refused(tmp_path: Path, content: bytes) -> None:
    assert outcome(tmp_path / "file.ckpt", content) == "refused"
