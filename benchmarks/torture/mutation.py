"""Wrong input of every kind, from a source of chance: bytes, texts, numbers, names of files, and JSON."""

import copy
import math
from collections.abc import Callable
from random import Random
from typing import Any

MAGIC = (
    b"\x00" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\x00\x00\x00",
    b"\x00\x00\x00\x80",
    b"\x00\x00\x00\x01",
)
NUMBERS: tuple[Any, ...] = (
    0, -0.0, 1, -1, 2, 3, 7, 63, 64, 65, 255, 256, 1000, 0.5, 1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf,
    2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**400, True, False,
)  # fmt: skip
NAMES = (
    "", " ", ".", "..", "/", "//", "../x", "../outside/victim.txt", "../../x", "a/../../x", "..\\x", "C:\\x", "C:x", "\\\\host\\x", "~", "~root", "$HOME",
    "%TEMP%", "con", "nul.mp4", "a\0b", "a\nb", "-", "--", "-rf", "file:///x", "http://127.0.0.1:9/x", "x.", "x ", ".x", ".x.part", ".lock", "report.html",
    "results.jsonl", "/dev/null", "/dev/stdin", "/proc/self/mem", "/etc/passwd", "/", "\u202egpj.x", "a" * 255, "b" * 5000, "\ud800",
)  # fmt: skip
SAMPLES = (
    "", " ", "\t\n", "\0", "\x1b[31m", "\r\n", "'", '"', "\\", "%s%n", "{}", "{0.__class__}", "<script>", "-->", "; rm", "$(x)", "`x`", "a" * 100_000,
    "\ud800", "\udfff", "\ufeff", "\u202e", "\u200b" * 50, "e\u0301" * 50, "\U0001f469\u200d\U0001f680", "\U0010ffff", "9" * 5000, "1e400", "nan", "-inf", "0x10", "1_000",
    "١٢٣", "½", "(" * 3000, "[" * 3000, "NULL", "None", "true",
)  # fmt: skip


def damaged(content: bytes, chance: Random, times: int | None = None) -> bytes:
    """Bytes that were whole, altered in a few places."""
    data = bytearray(content)
    for _ in range(times or chance.choice((1, 1, 2, 4, 16))):
        data = bytearray(chance.choice(_DAMAGES)(data, chance.randrange(len(data) + 1) if data else 0, chance))
    return bytes(data)


def _cut(data: bytearray, spot: int, chance: Random) -> bytes:
    return data[:spot]


def _flip(data: bytearray, spot: int, chance: Random) -> bytes:
    if spot < len(data):
        data[spot] ^= 1 << chance.randrange(8)
    return data


def _insert(data: bytearray, spot: int, chance: Random) -> bytes:
    return data[:spot] + chance.randbytes(chance.randrange(1, 64)) + data[spot:]


def _drop(data: bytearray, spot: int, chance: Random) -> bytes:
    return data[:spot] + data[spot + chance.randrange(1, 64) :]


def _overwrite(data: bytearray, spot: int, chance: Random) -> bytes:
    value = chance.choice(MAGIC)
    return data[:spot] + value + data[spot + len(value) :]


def _repeat(data: bytearray, spot: int, chance: Random) -> bytes:
    piece = data[spot : spot + chance.randrange(1, 256)]
    return data[:spot] + piece * chance.choice((2, 3, 50)) + data[spot:]


def _move(data: bytearray, spot: int, chance: Random) -> bytes:
    end = min(len(data), spot + chance.randrange(1, 256))
    piece, rest = data[spot:end], data[:spot] + data[end:]
    place = chance.randrange(len(rest) + 1)
    return rest[:place] + piece + rest[place:]


def _fill(data: bytearray, spot: int, chance: Random) -> bytes:
    size = min(len(data) - spot, chance.choice((1, 8, 64, 4096)))
    return data[:spot] + chance.choice((b" ", b"\n", b"\0", b"\x1b", b"\xff")) * size + data[spot + size :]


_DAMAGES: tuple[Callable[[bytearray, int, Random], bytes], ...] = (
    _cut, _flip, _flip, _flip, _insert, _drop, _overwrite, _overwrite, _repeat, _move, _fill,
)  # fmt: skip


def number(chance: Random) -> Any:
    return chance.choice(
        (chance.choice(NUMBERS), chance.randrange(-10, 2000), chance.uniform(-2, 2) * 10 ** chance.randrange(-3, 5))
    )


def text(chance: Random, longest: int = 40) -> str:
    """Something written: a sample of trouble, or characters of any plane of Unicode, surrogates among them."""
    if chance.random() < 0.5:
        return chance.choice(SAMPLES)
    plane = chance.randrange(17)
    return "".join(chr((plane << 16) + chance.randrange(0x10000)) for _ in range(chance.randrange(1, longest)))


def name(chance: Random) -> str:
    """Of a file, or so it says."""
    return chance.choice((chance.choice(NAMES), chance.choice(NAMES), text(chance)))


def value(chance: Random, depth: int = 2) -> Any:
    """Anything that JSON can hold."""
    kind = chance.randrange(8 if depth else 6)
    if kind < 2:
        return number(chance)
    if kind < 4:
        return text(chance)
    if kind == 4:
        return None
    if kind == 5:
        return name(chance)
    inside = [value(chance, depth - 1) for _ in range(chance.randrange(4))]
    return inside if kind == 6 else {text(chance): each for each in inside}


def altered(given: Any, chance: Random, times: int | None = None) -> Any:
    """JSON that was right, changed in a few places: a value replaced, dropped, doubled, wrapped, or put under another's name."""
    whole = [copy.deepcopy(given)]
    for _ in range(times or chance.choice((1, 1, 1, 2, 3))):
        holder, key = chance.choice(_places(whole))
        match chance.randrange(7):
            case 0 | 1 | 2:
                holder[key] = value(chance)
            case 3:
                holder[key] = [holder[key]]
            case 4 if isinstance(holder, dict):
                holder[text(chance)] = holder.pop(key)
            case 5 if holder is not whole:
                del holder[key]
            case _:
                other, place = chance.choice(_places(whole))
                holder[key] = copy.deepcopy(other[place])
    return whole[0]


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]
