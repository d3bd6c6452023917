"""Clips as IMAGE joined to one."""

import torch
from torch import Tensor

from ...dynamicrafter_core.errors import InputError
from ...dynamicrafter_core.film.joining import joined, repeats
from ...dynamicrafter_core.media.colour import Match, continue_colour

TRANSITIONS = ("cut", "dissolve")
DOUBLES = ("auto", "drop", "keep")


def join(clips: list[Tensor], dissolve: int, double: str, match: Match) -> tuple[Tensor, str]:
    """IMAGE batches of one size -> one batch, and what was done at the joints."""
    sizes = {tuple(clip.shape[1:3]) for clip in clips}
    if len(sizes) > 1:
        (height, width), (other_height, other_width) = sorted(sizes)[:2]
        raise InputError(
            f"The clips have different sizes, {width}x{height} and {other_width}x{other_height}: scale them to one "
            "size first."
        )
    parts, dropped = [clips[0][..., :3]], 0
    for clip in clips[1:]:
        following = clip[..., :3].to(parts[0])
        if len(following) > 1 and (double == "drop" or (double == "auto" and repeats(parts[-1], following))):
            following, dropped = following[1:], dropped + 1
        parts.append(_coloured(following, match, parts[-1][-1], parts[0][0]))
    shortest = min(map(len, parts))
    # A clip in the middle gives frames to two dissolves.
    most = min([len(parts[0]), len(parts[-1]), *(len(part) // 2 for part in parts[1:-1])])
    if dissolve > most:
        raise InputError(
            f"A dissolve of {dissolve} frames is too long: the shortest clip has {shortest} frames, so give {most} or "
            "fewer."
        )
    overlaps = [0, *[dissolve] * (len(parts) - 1)]
    frames = torch.stack(list(joined(zip(parts, overlaps, strict=True), dissolve)))
    doubles = f", {dropped} double frame{'s'[: dropped > 1]} left out" if dropped else ""
    return frames, f"{len(frames)} frames of {len(clips)} clips{doubles}"


def _coloured(frames: Tensor, match: Match, before: Tensor, first: Tensor) -> Tensor:
    """In steps of 1/255, as the core matches colours."""
    if match == "off":
        return frames
    return continue_colour(255 * frames, match, 255 * before, 255 * first) / 255
