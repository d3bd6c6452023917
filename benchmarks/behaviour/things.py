"""Does the named thing move, and the rest stand still? Held-out things in front of held-out pictures."""

from statistics import median

from torch import Tensor

from dynamicrafter_core.training.fidelity import rest_of
from dynamicrafter_core.training.motion_judge import see_motion
from dynamicrafter_core.training.motions import MOTIONS
from dynamicrafter_core.training.picture_clips import PictureClips
from dynamicrafter_core.training.thing_clips import MOVES, ThingClips, ThingMovedClips

from .subject import Row, Subject, least, round_trip

CASES = 60
RESTS = 20.0  # dB from which the rest stands still; a picture under a moving camera has less


def things(subject: Subject) -> list[Row]:
    family = subject.model.family
    size = (family.height, family.width, subject.frames)
    source = ThingClips(*size, fs=subject.fs_range, device=subject.device, pack=subject.pack)
    count = max(len(MOVES), min(CASES, subject.count))
    low, high = subject.fs_range
    speeds = [low, round((low * high) ** 0.5)]  # at the slowest a thing moves by less than a pixel of the judge
    names = [MOVES[number % len(MOVES)] for number in range(count)]
    fs = [speeds[number // len(MOVES) % len(speeds)] for number in range(count)]
    clips = source("held-out", range(count), motions=names, fs=fs)
    first = clips.pixels[:, :, 0]
    true = _right(clips.pixels, clips, first)
    panned = PictureClips(*size, fs=subject.fs_range, device=subject.device, pack=subject.pack)
    camera = panned("held-out", range(count), motions=["pan_left"] * count, fs=fs).pixels
    moved = rest_of(camera, camera[:, :, 0], clips.front)
    made = subject.make(clips)
    begun = round_trip(subject, first)
    right, rest = _right(made, clips, begun), rest_of(made, begun, clips.front)
    moves = [one == name for one, name in zip(_motions(made, clips), names, strict=True)]
    rows = [
        least("9", "the judge of things, on true clips", sum(true) / count, 0.95),
        least("9", "  on a camera's motion: does not stand still", sum(each < RESTS for each in moved) / count, 0.9),
        least("9", f"things: in {count} clips the thing moves and the rest stays", sum(right) / count, 0.8),
        Row("9", "  the thing moves as the prompt says", sum(moves) / count),
        Row("9", "  the rest, median, dB", median(rest)),
    ]
    for name in MOVES:
        mine = [row for row, each in enumerate(names) if each == name]
        rows.append(Row("9", f"  {name} ({len(mine)}): both", sum(right[row] for row in mine) / len(mine)))
    return rows


def _right(made: Tensor, clips: ThingMovedClips, first: Tensor) -> list[bool]:
    rest = rest_of(made, first, clips.front)
    seen = _motions(made, clips)
    return [one == name and still >= RESTS for one, name, still in zip(seen, clips.motions, rest, strict=True)]


def _motions(made: Tensor, clips: ThingMovedClips) -> list[str]:
    seen = see_motion(made, None, clips.front[:, :, 0], clips.subjects, tuple(MOTIONS))
    return [one.motion for one in seen]
