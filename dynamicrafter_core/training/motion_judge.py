"""Which motion a clip shows: its anchor frame is warped by every motion there could be, and the best fit is the answer.

Right on nearly all clips whose motion is known, where dense optical flow was right on four in five. Only what the anchor frame
shows is compared: what comes in from outside, or from behind an object, is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .camera import light, look
from .motions import MOTIONS, RATES, find_motion, find_motions, rates_of

EXTENTS = (0.04, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.36)  # in picture widths, from the first frame to the last
LARGEST = 32  # pixels along the longer side: enough to see motion by, and noise is averaged away
LEAST_FIT = 0.5  # a motion must explain as much of what standing still does not, or it is not seen

STILL_ERROR = 4 * 10 ** (-30 / 10)  # of pixels in -1..1: 30 dB


@dataclass(frozen=True)
class Seen:
    motion: str
    extent: float  # picture widths, from the first frame to the last
    explained: float  # the share of the change that this motion explains: 1 all, 0 none
    errors: dict[str, float]  # motion -> mean squared error of its best extent


def see_motion(
    clips: Tensor,
    anchor: Tensor | None = None,
    front: Tensor | None = None,
    subjects: Sequence[str] | None = None,
    motions: Sequence[str] = tuple(MOTIONS),
    extents: Sequence[float] = EXTENTS,
    compared: int = 4,
) -> list[Seen]:
    """Clips [B,3,T,H,W]; `anchor` [B] is the frame to warp (the first).

    `front` [B,1,H,W] marks, in the anchor frame, what may move by itself, and `subjects` what it is in each clip (object, sky:
    the ground under a moving sky, water, or plain: nothing). Without them, only motions of the whole picture are looked for.
    """
    anchor = torch.zeros(len(clips), dtype=torch.long) if anchor is None else anchor.long().cpu()
    subjects = ["plain"] * len(clips) if subjects is None or front is None else list(subjects)
    while max(clips.shape[-2:]) > LARGEST and min(clips.shape[-2:]) % 2 == 0:
        clips = F.avg_pool3d(clips, (1, 2, 2))
        front = None if front is None else F.avg_pool2d(front, 2)
    seen: dict[int, Seen] = {}
    for subject in sorted(set(subjects)):
        rows = [row for row, each in enumerate(subjects) if each == subject]
        names = [m.name for m in find_motions(tuple(motions)) if m.subject in ("any", subject)]
        index = torch.tensor(rows)
        mask = None if front is None or subject == "plain" else front[index.to(front.device)]
        found = _see(clips[index.to(clips.device)], anchor[index], mask, names, extents, compared)
        seen |= dict(zip(rows, found, strict=True))
    return [seen[row] for row in range(len(clips))]


def _see(
    clips: Tensor, anchor: Tensor, front: Tensor | None, names: list[str], extents: Sequence[float], compared: int
) -> list[Seen]:
    frames, rows = clips.shape[2], torch.arange(len(clips))
    # Frames spread over the clip, by how far they have come: b k.
    chosen = torch.linspace(0, frames - 1, min(compared, frames)).round().long().expand(len(clips), -1)
    progress = (chosen - anchor[:, None]) / max(1, frames - 1)
    picture = clips[rows, :, anchor]  # b 3 h w
    shown = clips.transpose(1, 2)[rows[:, None], chosen]  # b k 3 h w
    candidates = [(name, extent) for name in names for extent in (extents if find_motion(name).rates else (0.0,))]
    changes = [rates_of([name])[0] * extent * progress[..., None] for name, extent in candidates]
    errors = torch.stack([_misfit(shown, picture, front, change) for change in changes])  # candidates b
    return [_answer(candidates, errors[:, row].tolist()) for row in range(len(clips))]


def _answer(candidates: list[tuple[str, float]], errors: list[float]) -> Seen:
    best: dict[str, tuple[float, float]] = {}
    for (name, extent), error in zip(candidates, errors, strict=True):
        if name not in best or error < best[name][0]:
            best[name] = (error, extent)
    name = min(best, key=lambda each: best[each][0])
    error, extent = best[name]
    still = best["still"][0] if "still" in best else max(errors)
    # A clip that hardly changes is still, whichever tiny motion fits its noise best.
    if name != "still" and "still" in best and error > (1 - LEAST_FIT) * still and still < STILL_ERROR:
        name, error, extent = "still", still, 0.0
    return Seen(name, extent, 1 - error / max(still, 1e-9), {each: value[0] for each, value in best.items()})


def _misfit(shown: Tensor, picture: Tensor, front: Tensor | None, change: Tensor) -> Tensor:
    """Mean squared error of the picture moved by `change` [B,K,RATES], where it can be known: b."""
    device = picture.device
    height, width = picture.shape[-2:]
    longer = max(height, width)
    rate = dict(zip(RATES, change.to(device).unbind(-1), strict=True))  # b k
    wide = {name: value[..., None, None] for name, value in rate.items()}
    u, v = look(wide, height, width, longer, device)  # b k h w: where each pixel comes from
    known = torch.ones_like(u)
    if front is not None:
        mask = front.to(device)
        names = ("object_x", "object_y", "object_size", "sky", "water")
        if any(bool(rate[name].any()) for name in names):
            u, v, known = _regional(mask, u, v, wide)
    grid = torch.stack([u * 2 * longer / width, v * 2 * longer / height], -1)  # b k h w 2
    inside = (grid.abs().amax(-1) <= 1).float()
    moved = F.grid_sample(picture, grid.flatten(1, 2), padding_mode="border", align_corners=False)
    moved = moved.unflatten(2, (grid.shape[1], height)).transpose(1, 2)  # b k 3 h w
    shine = {name: rate[name][..., None, None, None] for name in ("light", "dark")}
    moved = light((moved + 1) / 2, shine) * 2 - 1
    weight = (known * inside)[:, :, None]
    squares = ((moved - shown) ** 2).mean(2, keepdim=True) * weight
    return (squares.sum((1, 2, 3, 4)) / weight.sum((1, 2, 3, 4)).clamp(min=1)).float().cpu()


def _regional(mask: Tensor, x: Tensor, y: Tensor, wide: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Where each pixel comes from when the front, or what is behind it, moves by itself; and where that can be known."""
    height, width = mask.shape[-2:]
    longer = max(height, width)

    def at(u: Tensor, v: Tensor) -> Tensor:
        grid = torch.stack([u * 2 * longer / width, v * 2 * longer / height], -1)
        sampled = F.grid_sample(mask.to(x), grid.flatten(1, 2), padding_mode="border", align_corners=False)
        return sampled.unflatten(2, (grid.shape[1], height))[:, 0]  # b k h w

    here = mask[:, :1, :, :].expand(-1, x.shape[1], -1, -1)
    weights = mask[:, 0] + 1e-6
    middle_x = ((weights * x[:, 0]).sum((1, 2)) / weights.sum((1, 2)))[:, None, None, None]
    middle_y = ((weights * y[:, 0]).sum((1, 2)) / weights.sum((1, 2)))[:, None, None, None]
    growth = wide["object_size"].exp()
    front_x = (x - wide["object_x"] - middle_x) / growth + middle_x - wide["water"]
    front_y = (y - wide["object_y"] - middle_y) / growth + middle_y
    back_x = x - wide["sky"]
    in_front = at(front_x, front_y) > 0.5
    # Behind the front: known where the place it comes from was not covered.
    seen_back = at(back_x.expand_as(x), y) < 0.5
    moving_front = in_front & ((wide["sky"] == 0).expand_as(x) | (here > 0.5))
    u = torch.where(moving_front, front_x.expand_as(x), back_x.expand_as(x))
    v = torch.where(moving_front, front_y.expand_as(y), y)
    return u, v, (moving_front | seen_back).float()
