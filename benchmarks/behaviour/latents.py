"""Where a clip's detail is lost: what latents bear, and how much of a motion the UNet knows before the first step of sampling."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dynamicrafter_core.training.evaluate import EVALUATION
from dynamicrafter_core.training.generate import decode, picture_latents
from dynamicrafter_core.training.inputs import condition, encode_clips
from dynamicrafter_core.training.measures import psnr
from dynamicrafter_core.training.objectives import Rows, predict
from dynamicrafter_core.training.picture_clips import CAMERA, PictureClips
from dynamicrafter_core.training.seeds import normal

from .pictures import clips_of, speeds_of
from .subject import Row, Subject

PICTURES, STEPPED = 24, 12  # pictures that are moved, and clips of one step
_EDGE = 3  # latent pixels at the border that are not compared: what moves in there is not known
_NOISE = 999


def latents(subject: Subject) -> list[Row]:
    family = subject.model.family
    source = PictureClips(
        family.height, family.width, subject.frames, fs=subject.fs_range, device=subject.device, pack=subject.pack
    )
    clips = clips_of(subject, source, 0, max(6, min(PICTURES, subject.count)), CAMERA[1:7])
    return _moved(subject, clips.pixels[:, :, 0]) + [
        Row("10", f"one step from noise, fs {fs}: last frame's error, of a standing one's", _left(subject, source, fs))
        for fs in speeds_of(subject)
    ]


def _moved(subject: Subject, pictures: Tensor) -> list[Row]:
    """Pictures whose latents are moved to the left, beside pictures that were moved before they were encoded."""
    z = picture_latents(subject.model, pictures)
    cell = pictures.shape[-1] // z.shape[-1]
    rows = []
    for share in (0.5, 1.0):
        wanted = shift(pictures, share * cell)
        made = decode(subject.model, shift(z.float(), share).to(z)[:, :, None])[:, :, 0]
        anew = decode(subject.model, picture_latents(subject.model, wanted)[:, :, None])[:, :, 0]
        inner = (..., *[slice(_EDGE * cell, -_EDGE * cell)] * 2)
        values = [float(psnr(each[inner], wanted[inner]).median()) for each in (made, anew)]
        rows.append(Row("10", f"latents moved by {share:g} of their pixels, decoded, dB", values[0]))
        rows.append(Row("10", "  the moved picture, encoded and decoded, dB", values[1]))
    return rows


def shift(pictures: Tensor, pixels: float) -> Tensor:
    """Moved to the left, with values between pixels taken linearly."""
    whole = int(pixels)
    moved = pictures.roll(-whole, -1)
    return torch.lerp(moved, moved.roll(-1, -1), pixels - whole)


@torch.no_grad()
def _left(subject: Subject, source: PictureClips, fs: int) -> float:
    """The squared error that the UNet's first answer leaves in the last frame, as a share of what the first frame, held, has."""
    numbers = range(max(6, min(STEPPED, subject.count)))
    motions = [CAMERA[1 + number % 6] for number in numbers]
    clips = source("held-out", numbers, motions=motions, fs=[fs] * len(motions))
    model = subject.model
    schedule = model.family.schedule()
    rows: Rows = [("latents", number) for number in numbers]
    given = condition(model, encode_clips(model, clips, rows), EVALUATION, rows)
    noise = normal([(*row, "noise") for row in rows], *given.z.shape[1:]).to(given.z.device)
    at = torch.full((len(numbers),), _NOISE, device=given.z.device)
    answer = predict(model, given, schedule.q_sample(given.z, at, noise), at)
    wanted = schedule.target(given.z, at, noise)
    standing = schedule.target(given.z[:, :, :1].expand_as(given.z), at, noise)
    made, held = (F.mse_loss(each[:, :, -1], wanted[:, :, -1]) for each in (answer, standing))
    return float(made / held)
