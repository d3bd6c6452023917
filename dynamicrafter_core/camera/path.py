"""How a camera moves: a preset or lines of text become a pose for each frame.

A pose is yaw, pitch, roll in degrees and x, y, z: yaw turns right, pitch up, roll clockwise; x is to the right, y up, z forward.
Distances are in units of the distance to the scene, so that the same path suits every depth map; the camera starts at 0.
"""

import difflib
import math
import re
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from ..checks import check_integer, check_number
from ..errors import InputError

AXES = ("yaw", "pitch", "roll", "x", "y", "z")
Easing = Literal["smooth", "linear", "in", "out"]
EASINGS: tuple[str, ...] = get_args(Easing)

# The pose at the end of the path. An orbit turns about the scene at distance 1 and is worked out in _orbit.
_ENDS: Mapping[str, Mapping[str, float]] = {
    "still": {},
    "pan left": {"yaw": -10},
    "pan right": {"yaw": 10},
    "tilt up": {"pitch": 8},
    "tilt down": {"pitch": -8},
    "roll left": {"roll": -10},
    "roll right": {"roll": 10},
    "move left": {"x": -0.2},
    "move right": {"x": 0.2},
    "move up": {"y": 0.15},
    "move down": {"y": -0.15},
    "zoom in": {"z": 0.3},
    "zoom out": {"z": -0.3},
}
_ORBITS = {"orbit left": (-20, 0), "orbit right": (20, 0), "orbit up": (0, 15), "orbit down": (0, -15)}
PRESETS = (*_ENDS, *_ORBITS)


def camera_path(motion: str, frames: int, easing: Easing = "smooth", amount: float = 1.0) -> Tensor:
    """A pose for each frame, t 6. `amount` scales the whole path.

    motion   presets joined by +, as "orbit left + zoom in", or lines of a time and a pose, as "0.5: yaw 10, z 0.2": times
             run from 0 to 1, what a line leaves out stays as it was, and the first line at time 0 may be left out
    easing   how the speed changes on the way to the end, or to the next line
    """
    frames = check_integer("frames", frames, 1, 4096)
    amount = check_number("amount", amount, -10, 10)
    if easing not in EASINGS:
        raise InputError(f"easing is {easing!r}; give {', '.join(EASINGS)}.")
    if not isinstance(motion, str) or not motion.strip():
        raise InputError(f"motion is {motion!r}; give {_accepted()}.")
    share = torch.linspace(0, 1, frames, dtype=torch.float64)
    poses = _through(_read_lines(motion), share, easing, amount) if ":" in motion else None
    if poses is None:
        poses = sum((_preset(name, _ease(share, easing), amount) for name in motion.split("+")), torch.zeros(1, 6))
    return poses.to(torch.float32)


def _accepted() -> str:
    return f"one of {', '.join(PRESETS)}, several joined by +, or lines such as '1: yaw 10, z 0.2'"


def _ease(share: Tensor, easing: str) -> Tensor:
    match easing:
        case "smooth":
            return share * share * (3 - 2 * share)
        case "in":
            return share * share
        case "out":
            return share * (2 - share)
    return share


def _preset(text: str, share: Tensor, amount: float) -> Tensor:
    name = " ".join(text.lower().replace("_", " ").split())
    if name in _ORBITS:
        sideways, upwards = (amount * math.radians(angle) for angle in _ORBITS[name])
        return _orbit(sideways, upwards, share)
    if name not in _ENDS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        raise InputError(
            f"motion {text.strip()!r} is unknown{f'; the nearest is {close[0]}' if close else ''}; give {_accepted()}."
        )
    end = torch.tensor([_ENDS[name].get(axis, 0.0) for axis in AXES], dtype=torch.float64)
    return amount * share[:, None] * end


def _orbit(sideways: float, upwards: float, share: Tensor) -> Tensor:
    """Around the point at distance 1, always looking at it; to the right of it the camera looks left."""
    a, b = sideways * share, upwards * share
    zero = torch.zeros_like(share)
    yaw, pitch = torch.rad2deg(-a), torch.rad2deg(-b)
    x, y, z = a.sin() * b.cos(), b.sin(), 1 - a.cos() * b.cos()
    return torch.stack([yaw, pitch, zero, x, y, z], dim=1)


def _read_lines(text: str) -> list[tuple[float, list[float]]]:
    """(time, pose) of each line, in order of time."""
    lines: list[tuple[float, list[float]]] = [(0.0, 6 * [0.0])]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        time_text, _, rest = line.partition(":")
        where = f"line {number} of the camera path"
        time = check_number(f"{where}: time", _number(time_text, where), 0, 1)
        pose = list(lines[-1][1])
        for word, value in _pairs(rest, where):
            pose[AXES.index(word)] = check_number(f"{where}: {word}", value, -360, 360)
        if time < lines[-1][0] or (time == lines[-1][0] and time > 0):
            raise InputError(f"{where}: time {time:g} does not come after {lines[-1][0]:g}; give the lines in order.")
        if time == 0:
            lines = [(0.0, pose)]
        else:
            lines.append((time, pose))
    return lines


def _pairs(text: str, where: str) -> list[tuple[str, float]]:
    words = text.replace(",", " ").replace("=", " ").split()
    if len(words) % 2 or any(word not in AXES for word in words[::2]):
        raise InputError(
            f"{where} holds {text.strip()!r}; give pairs of {', '.join(AXES)} and a number, such as 'yaw 10, z 0.2'."
        )
    return [(word, _number(value, where)) for word, value in zip(words[::2], words[1::2], strict=True)]


def _number(text: str, where: str) -> float:
    if not re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)\s*", text):
        raise InputError(f"{where} holds {text.strip()!r} where a number is expected, such as 0.5.")
    return float(text)


def _through(lines: list[tuple[float, list[float]]], share: Tensor, easing: str, amount: float) -> Tensor:
    """Between two lines the pose changes by the easing; after the last it stays."""
    times = torch.tensor([time for time, _ in lines], dtype=torch.float64)
    poses = torch.tensor([pose for _, pose in lines], dtype=torch.float64)
    after = torch.searchsorted(times, share, right=True).clamp(max=len(lines) - 1)
    before = (after - 1).clamp(min=0)
    length = (times[after] - times[before]).clamp(min=1e-9)
    part = _ease(((share - times[before]) / length).clamp(0, 1), easing)
    return amount * torch.lerp(poses[before], poses[after], part[:, None])
