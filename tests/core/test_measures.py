"""The measures of likeness say what people would say."""

import pytest
import torch
from torch.nn import functional as F

from dynamicrafter_core.training.clips import ProceduralClips
from dynamicrafter_core.training.measures import conformity, nearest_frame, perceptual_loss, psnr, similarity

SOURCE = ProceduralClips(32, 32, 6, fs=(4, 8))


def test_psnr_of_a_known_error() -> None:
    assert psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.2)).item() == pytest.approx(20.0, abs=1e-4)


def test_similarity_is_one_for_the_same_and_falls_with_shift_and_noise() -> None:
    pictures = SOURCE("held-out", range(4)).pixels[:, :, 0]
    noise = 0.2 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(similarity(pictures, pictures), torch.ones(4), atol=1e-5)
    for other in (pictures.roll(4, 3), pictures + noise):
        assert (similarity(pictures, other) < 0.95).all()


def test_conformity_falls_with_motion() -> None:
    scores = []
    for fs in (16, 8, 4, 2):
        clips = SOURCE("held-out", range(6), motions=["pan_left"] * 6, fs=[fs] * 6)
        scores.append(float(conformity(clips.pixels, clips.pixels[:, :, 0]).mean()))
    assert scores == sorted(scores, reverse=True)
    assert scores[0] < 1


def test_the_nearest_frame_is_the_picture_itself() -> None:
    clips = SOURCE("held-out", range(4), motions=["zoom_in"] * 4)
    frames = torch.tensor([0, 2, 5, 3])
    assert torch.equal(nearest_frame(clips.pixels, clips.pixels[torch.arange(4), :, frames]), frames)


def test_a_blurred_picture_costs_more_than_its_pixels_tell() -> None:
    pictures = SOURCE("held-out", range(4)).pixels[:, :, 0]
    blurred = F.avg_pool2d(pictures, 3, 1, 1)
    assert perceptual_loss(pictures, pictures) == 0
    assert perceptual_loss(blurred, pictures) > 0.01
