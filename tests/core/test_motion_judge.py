"""The measure of motion is right where the motion is known."""

import pytest
import torch

from dynamicrafter_core.training.clips import ProceduralClips
from dynamicrafter_core.training.motion_judge import see_motion
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
