"""The measure of what is left of a picture says what is known of clips whose last frame is known."""

import pytest
import torch
from torch.nn import functional as F

from dynamicrafter_core.training.fidelity import gradient_energy, keep
from dynamicrafter_core.training.motions import rates_of
from dynamicrafter_core.training.picture_clips import FilmedClips, Shot

MOTIONS = ["pan_left", "pan_up", "zoom_in", "zoom_out", "rotate_clockwise", "darken", "pan_right+zoom_in", "still"]
SIDE, FRAMES, EXTENT = 32, 4, 0.2


@pytest.fixture(scope="module")
def clips() -> FilmedClips:
    dice = torch.Generator().manual_seed(0)
    still = F.interpolate(torch.rand(1, 3, 24, 24, generator=dice), (120, 120), mode="bicubic").clamp(0, 1)[0]
    shots = [Shot(still, (60.0, 60.0), 50.0)] * len(MOTIONS)
    extents = torch.full((len(MOTIONS),), EXTENT)
    return FilmedClips(filmed(shots, 1.0), [""] * len(MOTIONS), torch.full((len(MOTIONS),), 8), MOTIONS, extents, shots)


def filmed(shots: list[Shot], pace: float) -> torch.Tensor:
    extents = torch.linspace(0, EXTENT * pace, FRAMES)
    return torch.stack([s.film(rates_of([m])[0], extents, SIDE, SIDE) for s, m in zip(shots, MOTIONS, strict=True)])


def test_true_clips_keep_everything(clips: FilmedClips) -> None:
    for one in keep(clips.pixels, clips):
        assert one.psnr > 60 and one.detail == pytest.approx(1, abs=1e-3) and one.drift < 0.1


def test_slower_and_faster_clips_keep_everything_too(clips: FilmedClips) -> None:
    for pace in (0.5, 1.5):
        for motion, one in zip(MOTIONS, keep(filmed(clips.shots, pace), clips), strict=True):
            assert one.psnr > 60, motion
            assert motion == "still" or one.pace == pytest.approx(pace, abs=1e-3)


def test_a_clip_that_stands_or_goes_the_other_way_keeps_little(clips: FilmedClips) -> None:
    standing = keep(clips.pixels[:, :, :1].expand_as(clips.pixels), clips)
    backwards = keep(filmed(clips.shots, -1.0), clips)
    for motion, still, back in zip(MOTIONS, standing, backwards, strict=True):
        assert motion == "still" or (still.psnr < 25 and back.psnr < 25), motion


def test_a_known_error_is_measured_in_decibels_and_colour(clips: FilmedClips) -> None:
    shifted = clips.pixels + torch.tensor([8.0, -8.0, 2.0])[:, None, None, None] / 127.5
    for one in keep(shifted, clips):
        assert one.drift == pytest.approx(6, abs=0.5)
        assert one.psnr == pytest.approx(10 * torch.tensor(255**2 * 3 / (64 + 64 + 4)).log10().item(), abs=0.5)


def test_a_blurred_clip_has_lost_detail(clips: FilmedClips) -> None:
    rows, size = clips.pixels.transpose(1, 2).flatten(0, 1), clips.pixels.shape
    blurred = F.avg_pool2d(rows, 3, 1, 1, count_include_pad=False).unflatten(0, (size[0], size[2])).transpose(1, 2)
    assert all(one.detail < 0.8 for one in keep(blurred, clips))


def test_the_energy_of_a_known_picture() -> None:
    ramp = torch.arange(8.0).expand(3, 8, 8) / 8
    assert gradient_energy(ramp, torch.ones(8, 8)) == pytest.approx(3 / 64)
