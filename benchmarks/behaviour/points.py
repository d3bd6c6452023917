"""The points, in the order of the list they come from; each gives its rows of the table."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dynamicrafter_core.models.layout import to_frames
from dynamicrafter_core.training.clips import MovedClips
from dynamicrafter_core.training.measures import conformity, nearest_frame, psnr
from dynamicrafter_core.training.motion_judge import see_motion
from dynamicrafter_core.training.motions import MOTIONS

from .subject import Row, Subject, agreement, at_most, least, round_trip, turned

DIAL_CLIPS = 24  # pictures for each setting of a dial
MOVING = ("pan_left", "pan_right", "pan_up", "pan_down", "zoom_in", "zoom_out")


def autoencoder(subject: Subject) -> list[Row]:
    clips = subject.clips(0, min(subject.count, 64))
    frames = to_frames(clips.pixels)
    made = torch.cat([round_trip(subject, part) for part in frames.split(256)])
    return [least("1", "autoencoder: PSNR of held-out frames, dB", float(psnr(made, frames).mean()), 26)]


def motion(subject: Subject) -> list[Row]:
    clips = subject.clips(0, subject.count)
    known = see_motion(clips.pixels, None, clips.front[:, :, 0], clips.subjects, subject.motions)
    made = subject.make(clips)
    seen = subject.see(made, clips)
    rows = [
        least("2", "the measure on clips of known motion", agreement(known, clips.motions), 0.98),
        least("2", f"{len(seen)} clips move as the prompt says", agreement(seen, clips.motions), 0.9),
    ]
    for name in subject.motions:
        mine = [index for index, each in enumerate(clips.motions) if each == name]
        if mine:
            share = agreement([seen[index] for index in mine], [name] * len(mine))
            rows.append(Row("2", f"  {name} ({len(mine)} clips)", share))
    able = [index for index, name in enumerate(clips.motions) if MOTIONS[name].opposite][: max(1, subject.count // 2)]
    opposite = _rows(turned(clips), able)
    pair = subject.see(subject.make(opposite), opposite)
    both = [
        seen[index].motion == clips.motions[index] and other.motion == opposite.motions[place]
        for place, (index, other) in enumerate(zip(able, pair, strict=True))
    ]
    right = agreement(pair, opposite.motions)
    rows.append(least("2", f"the same {len(able)} pictures under the opposite prompts", right, 0.9))
    rows.append(Row("2", "  right under both", sum(both) / len(both)))
    return rows


def silence(subject: Subject) -> list[Row]:
    clips = _dial_clips(subject)
    silent = replace(clips, captions=[""] * len(clips.captions))
    seen = subject.see(subject.make(silent), silent)
    return [Row("2", "without a prompt nothing moves", agreement(seen, ["still"] * len(seen)))]


def faithfulness(subject: Subject) -> list[Row]:
    clips = subject.clips(1000, 2 * DIAL_CLIPS)
    pictures = clips.pixels[:, :, 0]
    wanted = round_trip(subject, pictures)
    scores, kept = {}, 0.0
    for name, dials in {"": {}, ", no VDG": {"vdg": False}, ", no context": {"context": False}}.items():
        made = subject.make(clips, **dials)
        scores[name] = float(conformity(made, pictures).mean())
        if not name:
            anchor = nearest_frame(made, wanted).to(made.device)
            kept = float(psnr(made[torch.arange(len(made), device=made.device), :, anchor], wanted).mean())
    whole = scores.pop("")
    rows = [least("3", "the picture in the clip, PSNR after the autoencoder, dB", kept, 24), Row("3", "PIC", whole)]
    return rows + [Row("3", f"PIC{name}", score, f"< {whole:.4g}", score < whole) for name, score in scores.items()]


def _dial_clips(subject: Subject) -> MovedClips:
    return subject.clips(2000, DIAL_CLIPS, MOVING)


def fs(subject: Subject) -> list[Row]:
    clips = _dial_clips(subject)
    low, high = subject.model.family.fs_range or (8, 32)
    speeds = [round(low * (high / low) ** (step / 4)) for step in range(5)]
    made = [subject.make(clips, fs=torch.full_like(clips.fs, fs)) for fs in speeds]
    return _series("fs: extent of the motion", speeds, [_extent(subject, each, clips) for each in made], falls=True)


def cfg_image(subject: Subject) -> list[Row]:
    clips, scales = _dial_clips(subject), [0.0, 1.0, 2.0, 4.0, 7.0]
    made = [subject.make(clips, image_scale=scale) for scale in scales]
    values = [float(conformity(each, clips.pixels[:, :, 0]).mean()) for each in made]
    return _series("cfg_image: PIC", scales, values)


def cfg_text(subject: Subject) -> list[Row]:
    clips, scales = _dial_clips(subject), [0.0, 1.0, 2.0, 4.0]
    made = [subject.make(clips, image_scale=1.0, text_scale=scale) for scale in scales]
    values = [agreement(subject.see(each, clips), clips.motions) for each in made]
    return _series("cfg_text: motion as prompted", scales, values)


def strength(subject: Subject) -> list[Row]:
    clips, strengths = _dial_clips(subject), [0.5, 1.0, 1.5, 2.0, 3.0]
    made = [subject.make(clips, image_strength=strength) for strength in strengths]
    changes = [float((each.diff(dim=2) ** 2).mean()) for each in made]
    rows = _series("lambda: change between frames", strengths, changes, falls=True)
    extents = [_extent(subject, each, clips) for each in made]
    return rows + _told("lambda: extent of the motion", strengths, extents)


def eta(subject: Subject) -> list[Row]:
    clips, etas = _dial_clips(subject), [0.0, 0.25, 0.5, 1.0]
    values = [_likeness(subject.make(clips, eta=eta), clips.pixels) for eta in etas]
    return _series("eta: likeness to the true clip, dB", etas, values)


def steps(subject: Subject) -> list[Row]:
    clips, counts = _dial_clips(subject), [1, 2, 5, 10, 25]
    made = [subject.make(clips, steps=count) for count in counts]
    true = _detail(clips.pixels)
    # Few steps give about the mean of all clips that might be: best in PSNR, and a blur. So likeness is reported, not judged.
    return [
        *_series("steps: detail, of the true clip's", counts, [_detail(each) / true for each in made]),
        *_told("steps: likeness to the true clip, dB", counts, [_likeness(each, clips.pixels) for each in made]),
    ]


def _extent(subject: Subject, made: Tensor, clips: MovedClips) -> float:
    seen = subject.see(made, clips)
    return sum(one.extent for one in seen) / len(seen)


def _detail(clips: Tensor) -> float:
    """How much neighbouring pixels differ."""
    return float(sum((clips.diff(dim=axis) ** 2).mean() for axis in (-1, -2)))


def _likeness(made: Tensor, wanted: Tensor) -> float:
    return float(psnr(made, wanted).mean())


def ends(subject: Subject) -> list[Row]:
    clips = subject.clips(3000, DIAL_CLIPS, MOVING)
    first, last = clips.pixels[:, :, 0], clips.pixels[:, :, -1]
    made = subject.make(clips, last=last)
    middle, fade = made[:, :, subject.frames // 2], (first + last) / 2
    true = clips.pixels[:, :, subject.frames // 2]
    looped = subject.make(clips, last=first)
    steps = (looped.diff(dim=2) ** 2).mean((1, 3, 4)).clamp(min=1e-6)  # b t-1
    seam = ((looped[:, :, -1] - looped[:, :, 0]) ** 2).mean((1, 2, 3))
    round_again = ((looped[:, :, -2] - looped[:, :, 0]) ** 2).mean((1, 2, 3))  # a loop is shown without its last frame
    return [
        least("5", "interpolation: first frame, PSNR dB", float(psnr(made[:, :, 0], first).mean()), 22),
        least("5", "interpolation: last frame, PSNR dB", float(psnr(made[:, :, -1], last).mean()), 22),
        Row("5", "interpolation: middle to the true middle, PSNR dB", float(psnr(middle, true).mean())),
        Row("5", "  a cross-fade's, for comparison", float(psnr(fade, true).mean())),
        at_most("5", "interpolation: middle to a cross-fade, PSNR dB", float(psnr(middle, fade).mean()), 30),
        at_most("5", "loop: seam against neighbouring frames", float((seam / steps.mean(1)).median()), 1),
        Row(
            "5",
            "  as shown, without the last frame: against the mean step",
            float((round_again / steps.mean(1)).median()),
        ),
        Row("5", "  against the largest step", float((round_again / steps[:, :-1].amax(1)).median())),
    ]


def _told(what: str, settings: Sequence[float], values: list[float]) -> list[Row]:
    return [Row("4", f"{what} at {setting:g}", value) for setting, value in zip(settings, values, strict=True)]


def _series(what: str, settings: Sequence[float], values: list[float], falls: bool = False) -> list[Row]:
    pairs = list(zip(values[:-1], values[1:], strict=True))
    right = all(b <= a if falls else b >= a for a, b in pairs)
    direction = "falls" if falls else "rises"
    share = sum(b <= a if falls else b >= a for a, b in pairs) / len(pairs)
    return [*_told(what, settings, values), Row("4", f"  {direction}, share of steps", share, direction, right)]


def _rows(clips: "object", index: list[int]) -> "object":
    """Some clips of a batch."""
    from dataclasses import replace

    values = vars(clips)
    rows = {name: value[index] for name, value in values.items() if isinstance(value, Tensor)}
    lists = {name: [value[i] for i in index] for name, value in values.items() if isinstance(value, list)}
    return replace(clips, **rows, **lists, scenes=clips.scenes.select(index))  # type: ignore[attr-defined,type-var]
