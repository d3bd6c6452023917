"""The measure of motion is right where the motion is known, and the measures of likeness mean what they say."""

import pytest
import torch

from dynamicrafter_core.training.clips import ProceduralClips
from dynamicrafter_core.training.measures import conformity, nearest_frame, perceptual_loss, psnr, similarity
from dynamicrafter_core.training.motion import see_motion
from dynamicrafter_core.training.motions import MOTIONS

SOURCE = ProceduralClips(32, 32, 6, fs=(4, 8))


@pytest.fixture(scope="module")
def known():  # noqa: ANN201
    """Five held-out clips of every motion."""
    names = [name for name in MOTIONS for _ in range(5)]
    return SOURCE("held-out", range(len(names)), motions=names)


@pytest.mark.slow
def test_known_motion_is_seen_in_98_percent(known) -> None:  # noqa: ANN001
    seen = see_motion(known.pixels, front=known.front[:, :, 0], subjects=known.subjects)
    right = sum(one.motion == motion for one, motion in zip(seen, known.motions, strict=True))
    assert right / len(seen) >= 0.98


def test_the_extent_is_seen_too(known) -> None:  # noqa: ANN001
    clips = SOURCE("held-out", range(4), motions=["pan_right"] * 4, fs=[4, 5, 6, 8])
    for one, true in zip(see_motion(clips.pixels), clips.extents.tolist(), strict=True):
        assert one.extent == pytest.approx(true, abs=0.04)


def test_motion_is_seen_from_any_frame_of_the_clip(known) -> None:  # noqa: ANN001
    clips = SOURCE("held-out", range(6), motions=["pan_left", "zoom_in", "rotate_clockwise"] * 2, fs=[4] * 6)
    seen = see_motion(clips.pixels, anchor=torch.tensor([0, 0, 0, 5, 3, 5]))
    assert [one.motion for one in seen] == clips.motions


@pytest.mark.slow
def test_noise_of_a_decoder_does_not_mislead(known) -> None:  # noqa: ANN001
    noisy = known.pixels + 0.05 * torch.randn(known.pixels.shape, generator=torch.Generator().manual_seed(0))
    seen = see_motion(noisy, front=known.front[:, :, 0], subjects=known.subjects)
    right = sum(one.motion == motion for one, motion in zip(seen, known.motions, strict=True))
    assert right / len(seen) >= 0.9


def test_a_clip_of_noise_shows_no_motion() -> None:
    noise = torch.randn(4, 3, 6, 32, 32, generator=torch.Generator().manual_seed(0))
    assert all(one.explained < 0.5 for one in see_motion(noise))


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
    blurred = torch.nn.functional.avg_pool2d(pictures, 3, 1, 1)
    assert perceptual_loss(pictures, pictures) == 0
    assert perceptual_loss(blurred, pictures) > 0.01
