"""What a model does to real pictures: those of the installed template packages that no training saw.

The judge is measured first, on true clips filmed from the same pictures, whose answer is known.
"""

from collections.abc import Sequence
from statistics import median, quantiles

import torch
from torch import Tensor

from dynamicrafter_core.training.fidelity import Kept, detail_of, keep
from dynamicrafter_core.training.measures import psnr
from dynamicrafter_core.training.motion_judge import see_motion
from dynamicrafter_core.training.picture_clips import CAMERA, MIXTURES, FilmedClips, PictureClips

from .subject import Row, Subject, agreement, at_most, least, round_trip

PICTURES = 72  # for the camera's motions; a third of them at each speed
MIXED = 24  # for two motions together
ENDS = 24  # for interpolation and loops
_TENTH = 10


def pictures(subject: Subject) -> list[Row]:
    family = subject.model.family
    source = PictureClips(
        family.height, family.width, subject.frames, fs=subject.fs_range, device=subject.device, pack=subject.pack
    )
    count = max(2, min(PICTURES, subject.count))  # the judge needs one that moves
    clips = clips_of(subject, source, 0, count, CAMERA)
    rows = _judge(clips)
    first = clips.pixels[:, :, 0]
    coded = round_trip(subject, first)
    rows.append(Row("8", "pictures: the autoencoder, PSNR dB", float(psnr(coded, first).median())))
    rows.append(Row("8", "  gradient energy, of the true frame's", detail_of(coded, first)))
    made = subject.make(clips)
    kept = keep(made, clips)
    seen = see_motion(made, motions=CAMERA)
    rows += [
        least("8", f"pictures: {count} clips move as the prompt says", agreement(seen, clips.motions), 0.95),
        *_kept_rows(kept),
    ]
    for name in CAMERA:
        mine = [row for row, motion in enumerate(clips.motions) if motion == name]
        if mine:
            right = agreement([seen[row] for row in mine], [name] * len(mine))
            rows.append(Row("8", f"  {name} ({len(mine)}): right", right))
            rows.append(Row("8", f"  {name}: last frame, dB", median(kept[row].psnr for row in mine)))
    for fs in speeds_of(subject):
        mine = [row for row, each in enumerate(clips.fs.tolist()) if each == fs]
        if mine:
            rows.append(Row("8", f"  fs {fs}: last frame, dB", median(kept[row].psnr for row in mine)))
    both = clips_of(subject, source, 1000, min(MIXED, subject.count), MIXTURES)
    right = agreement(see_motion(subject.make(both), motions=(*CAMERA, *MIXTURES)), both.motions)
    rows.append(least("8", "pictures: two motions together, as the prompt says", right, 0.95))
    return rows + _ends(subject, clips_of(subject, source, 2000, min(ENDS, subject.count), CAMERA[1:7]))


def speeds_of(subject: Subject) -> list[int]:
    low, high = subject.fs_range
    return [low, round((low * high) ** 0.5), high]


def clips_of(subject: Subject, source: PictureClips, first: int, count: int, motions: Sequence[str]) -> FilmedClips:
    speeds = speeds_of(subject)
    numbers = range(first, first + count)
    names = [motions[number % len(motions)] for number in range(count)]
    fs = [speeds[number // len(motions) % len(speeds)] for number in range(count)]
    clips = source("held-out", numbers, motions=names, fs=fs)
    assert isinstance(clips, FilmedClips)
    return clips


def _judge(clips: FilmedClips) -> list[Row]:
    """What the judge says of true clips, and of ones it must find fault with."""
    true = keep(clips.pixels, clips)
    frozen = keep(clips.pixels[:, :, :1].expand_as(clips.pixels), clips)
    moving = [row for row, motion in enumerate(clips.motions) if motion != "still"]
    found = agreement(see_motion(clips.pixels, motions=CAMERA), clips.motions)
    return [
        least("8", "the judge of pictures, on true clips: motion", found, 0.98),
        least("8", "  true clips: last frame, worst, dB", min(one.psnr for one in true), 40),
        at_most("8", "  the first frame, held: last frame, median, dB", median(frozen[row].psnr for row in moving), 25),
    ]


def _kept_rows(kept: Sequence[Kept]) -> list[Row]:
    levels = [one.psnr for one in kept]
    tenth = quantiles(levels, n=_TENTH)[0] if len(levels) > 1 else levels[0]
    detail = median(one.detail for one in kept)
    return [
        least("8", "pictures: last frame to what the first says, median, dB", median(levels), 25),
        least("8", "  worst tenth, dB", tenth, 20),
        Row("8", "  gradient energy, of the true frame's", detail, "0.85 to 1.15", 0.85 <= detail <= 1.15),
        at_most("8", "  colour drift, of 255", median(one.drift for one in kept), 3),
        Row("8", "  how far the camera comes, of what fs asks", median(one.pace for one in kept)),
    ]


def _ends(subject: Subject, clips: FilmedClips) -> list[Row]:
    first, last = clips.pixels[:, :, 0], clips.pixels[:, :, -1]
    made = subject.make(clips, last=last)
    middle = subject.frames // 2
    true, fade = clips.pixels[:, :, middle], (first + last) / 2
    gain = float((psnr(made[:, :, middle], true) - psnr(fade, true)).mean())
    return [
        least("8", "pictures: interpolation's middle, above a cross-fade, dB", gain, 2),
        at_most("8", "pictures: loop, the step over the seam as shown", seam(subject.make(clips, last=first)), 1.2),
    ]


def seam(looped: Tensor) -> float:
    """From the last frame shown to the first, of the mean step; a loop is shown without its last frame, which is the first again."""
    steps = (looped[:, :, :-1].diff(dim=2) ** 2).mean((1, 3, 4)).sqrt().mean(1).clamp(min=1e-3)  # b
    over = ((looped[:, :, -2] - looped[:, :, 0]) ** 2).mean((1, 2, 3)).sqrt()
    return float(torch.median(over / steps))
