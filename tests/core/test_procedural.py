"""Procedural clips are what their captions say, the same whenever they are asked for, and without end."""

import pytest
import torch

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.training.clips import SPEED, ProceduralClips
from dynamicrafter_core.training.motions import MOTIONS

SOURCE = ProceduralClips(32, 32, 4)


def test_a_clip_is_made_of_its_split_and_number_alone() -> None:
    alone, among = SOURCE("train", [5]), SOURCE("train", [4, 5, 6])
    assert torch.equal(alone.pixels[0], among.pixels[1])
    assert alone.captions[0] == among.captions[1]


def test_held_out_clips_are_others() -> None:
    assert not torch.equal(SOURCE("train", [0]).pixels, SOURCE("held-out", [0]).pixels)


def test_a_stage_may_begin_with_later_clips() -> None:
    later = ProceduralClips(32, 32, 4, first=3)
    assert torch.equal(later("train", [2]).pixels, SOURCE("train", [5]).pixels)


def test_another_seed_makes_other_clips() -> None:
    assert not torch.equal(SOURCE("train", [0]).pixels, ProceduralClips(32, 32, 4, seed=1)("train", [0]).pixels)


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_starts_from_the_same_picture(motion: str) -> None:
    scenes = SOURCE("train", [3]).scenes
    still = SOURCE.move(scenes, ["still"], torch.tensor([8]), [""])
    moved = SOURCE.move(scenes, [motion], torch.tensor([8]), [""])
    assert torch.allclose(still.pixels[:, :, 0], moved.pixels[:, :, 0], atol=1e-6)
    assert torch.equal(still.pixels[:, :, 0], still.pixels[:, :, -1])


@pytest.mark.parametrize("motion", [name for name in MOTIONS if name != "still"])
def test_every_motion_changes_the_picture(motion: str) -> None:
    clips = SOURCE("train", range(4), motions=[motion] * 4, fs=[4] * 4)
    assert ((clips.pixels[:, :, 0] - clips.pixels[:, :, -1]) ** 2).mean((1, 2, 3)).min() > 1e-4


def test_a_camera_pan_to_the_left_slides_the_picture_to_the_right() -> None:
    fs = round(3 * SPEED * 32 / 8)  # eight pixels in the whole clip
    clips = ProceduralClips(32, 32, 4)("train", [1], motions=["pan_left"], fs=[fs])
    shift = round(float(clips.extents[0]) * 32)
    first, last = clips.pixels[0, :, 0], clips.pixels[0, :, -1]
    assert (first[:, :, :-shift] - last[:, :, shift:]).abs().mean() < (first - last).abs().mean() / 2


def test_a_window_shows_the_middle_of_the_scene_at_its_speed() -> None:
    given = {"motions": ["pan_left", "zoom_in", "darken"], "fs": [8, 8, 8]}
    whole = ProceduralClips(32, 32, 4)("train", range(3), **given)
    window = ProceduralClips(16, 16, 4, window_of=32)("train", range(3), **given)
    assert torch.allclose(window.pixels, whole.pixels[..., 8:24, 8:24], atol=1e-5)
    assert torch.allclose(window.front, whole.front[..., 8:24, 8:24], atol=1e-5)


def test_twice_the_fs_moves_half_as_far() -> None:
    slow, fast = SOURCE("train", [0, 0], fs=[16, 8]).extents
    assert fast == pytest.approx(2 * slow)
    assert fast == pytest.approx(3 * SPEED / 8)


def test_more_weight_of_the_image_moves_less_and_says_the_same() -> None:
    source = ProceduralClips(32, 32, 4, motions=["pan_left"], fs=(4, 16), strengths=(0.5, 1, 2))
    drawn = source("train", range(60))
    assert sorted(set(drawn.strength.tolist())) == [0.5, 1, 2]
    plain, held, freed, fastest = source("train", [0] * 4, fs=[8, 8, 8, 4], strengths=[1, 2, 0.5, 0.5]).extents
    assert held == pytest.approx(plain / 2)
    assert freed == pytest.approx(plain * 2)
    assert fastest == pytest.approx(freed)  # as fast as the smallest fs, and no faster
    assert source("train", [0], fs=[8], strengths=[2]).fs == 8


def test_weights_of_the_image_are_above_zero() -> None:
    with pytest.raises(InputError, match=r"strengths is \[1, 0\]"):
        ProceduralClips(32, 32, 4, strengths=[1, 0])


def test_every_motion_is_said_in_several_ways_that_name_the_direction() -> None:
    captions = {SOURCE("train", [n], motions=["pan_left"]).captions[0] for n in range(40)}
    assert len(captions) >= 8
    assert all("left" in caption for caption in captions)


def test_captions_name_the_object_that_moves() -> None:
    clips = SOURCE("train", range(8), motions=["object_up"] * 8)
    assert all(thing in caption for thing, caption in zip(clips.scenes.things, clips.captions, strict=True))


def test_pictures_have_texture_and_stay_in_range() -> None:
    pixels = SOURCE("train", range(16)).pixels[:, :, 0]
    assert pixels.min() >= -1 and pixels.max() <= 1
    assert pixels.std((2, 3)).mean() > 0.1


def test_unknown_motions_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="'jump'"):
        ProceduralClips(32, 32, 4, motions=["jump"])
