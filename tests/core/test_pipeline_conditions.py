"""What the pipeline tells the UNet: text, image tokens, latents, guidance branches, fs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, INTERPOLATE, WIDTH, Spy, picture
from torch import Tensor

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.images import read_image
from dynamicrafter_core.models.chunks import OutOfMemory
from dynamicrafter_core.models.encoders import VisionTower
from dynamicrafter_core.models.preprocess import preprocess_for_clip
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.slow


def test_animation_repeats_one_sample_of_the_images_latent(model_of: Callable[[str], Path], spy: Spy) -> None:
    Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", steps=2)
    concat = spy.first["x"][:, 4:]
    assert concat.shape == (1, 4, FRAMES, HEIGHT // 2, WIDTH // 2)
    assert torch.equal(concat, concat[:, :, :1].expand_as(concat)) and concat.any()
    assert all(torch.equal(call["x"][:, 4:], concat) for call in spy.calls)


def test_interpolation_shows_the_ends_and_nothing_between(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(INTERPOLATE))
    pipeline.interpolate(picture(0), picture(1), steps=1)
    concat = spy.first["x"][0, 4:]
    assert concat[:, 0].any() and concat[:, -1].any() and not concat[:, 1:-1].any()
    spy.calls.clear()
    pipeline.interpolate(picture(0), picture(2), steps=1)
    assert torch.equal(spy.first["x"][0, 4:, 0], concat[:, 0])
    assert not torch.allclose(spy.first["x"][0, 4:, -1], concat[:, -1], atol=0.1)


def test_a_loop_ends_where_it_begins_and_gives_its_last_frame_away(model_of: Callable[[str], Path], spy: Spy) -> None:
    clip = Pipeline(model_of(INTERPOLATE)).loop(picture(), steps=1)
    concat = spy.first["x"][0, 4:]
    assert len(clip.frames) == FRAMES - 1 and spy.first["x"].shape[2] == FRAMES
    # Two samples of one posterior: alike, but not the same.
    assert torch.allclose(concat[:, 0], concat[:, -1], atol=2) and not torch.equal(concat[:, 0], concat[:, -1])


def test_image_tokens_come_from_the_whole_first_image(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(INTERPOLATE))
    wide = picture(width=200)
    pipeline.interpolate(wide, picture(1), steps=1)
    tokens = spy.first["image"][0]
    spy.calls.clear()
    pipeline.interpolate(wide, picture(2), steps=1)
    assert torch.equal(spy.first["image"][0], tokens)
    spy.calls.clear()
    edge = wide.copy()
    edge[:, :20] = 0  # cropped away from the frame, but CLIP sees it
    pipeline.interpolate(edge, picture(2), steps=1)
    assert not torch.allclose(spy.first["image"][0], tokens)


def test_unconditional_image_is_mid_grey(
    model_of: Callable[[str], Path], spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    look = VisionTower.forward

    def watched(self: VisionTower, pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return look(self, pixels)

    monkeypatch.setattr(VisionTower, "forward", watched)
    Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", steps=1)
    grey = preprocess_for_clip(torch.zeros(1, 3, 90, 70), 28)
    assert torch.allclose(seen[0][1:], grey, atol=1e-5)
    assert torch.allclose(seen[0][:1], preprocess_for_clip(read_image(picture())[None], 28), atol=1e-5)


def test_the_branches_see_what_dual_guidance_says(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    pipeline.animate(picture(), "a cat", negative="dark", steps=1, image_scale=2.0)
    text, image = spy.first["text"], spy.first["image"]
    assert len(text) == len(image) == 3 and len(spy.first["x"]) == 1
    assert torch.equal(text[1], text[2]) and not torch.equal(text[0], text[1])  # prompt, negative, negative
    assert torch.equal(image[0], image[2]) and not torch.equal(image[0], image[1])  # image, grey, image
    assert image.shape[1] == FRAMES and not torch.equal(image[0, 0], image[0, 1])  # each frame its own


def test_the_context_strength_weighs_the_image_in_every_branch(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    pipeline.animate(picture(), "a cat", steps=1)
    assert spy.first["image_strength"] == 1.0
    spy.calls.clear()
    pipeline.animate(picture(), "a cat", steps=1, context_strength=2.5)
    assert spy.first["image_strength"] == 2.5


@pytest.mark.parametrize(
    ("scales", "rows"),
    [
        ({}, 2),
        ({"text_scale": 1.0}, 1),
        ({"text_scale": 7.5, "image_scale": 7.5}, 2),
        ({"text_scale": 1.0, "image_scale": 1.0}, 1),
        ({"text_scale": 4.0, "image_scale": 1.0}, 2),
        ({"text_scale": 0.0, "image_scale": 2.0, "guidance_rescale": 0.0}, 2),
    ],
)
def test_a_branch_that_vanishes_gets_no_pass(
    model_of: Callable[[str], Path], spy: Spy, scales: dict[str, float], rows: int
) -> None:
    Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", steps=1, **scales)  # type: ignore[arg-type]
    assert len(spy.first["text"]) == rows


def test_branches_that_do_not_fit_together_go_one_by_one(
    model_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", steps=3, image_scale=2.0)
    forward = VideoUNet.forward
    rows = []

    def small(self: VideoUNet, x: Tensor, t: Tensor, text: Tensor, *rest: Any, **named: Any) -> Tensor:
        rows.append(len(text))
        if len(text) > 1:
            raise OutOfMemory("out of memory")
        return forward(self, x, t, text, *rest, **named)

    monkeypatch.setattr(VideoUNet, "forward", small)
    singly = Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", steps=3, image_scale=2.0)
    assert rows == [3, 2, *[1] * 9]  # tried once, then known
    assert (together.frames.int() - singly.frames.int()).abs().max() <= 1


def test_where_not_even_one_fits_the_error_says_what_to_do(
    model_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Tensor:
        raise OutOfMemory("out of memory")

    monkeypatch.setattr(VideoUNet, "forward", full)
    with pytest.raises(InputError, match="ran out of memory.*unet.*smaller size"):
        Pipeline(model_of(ANIMATE)).animate(picture(), steps=1)


@pytest.mark.parametrize(("name", "fs"), [(ANIMATE, 24), ("dynamicrafter_256", 3), ("dynamicrafter_1024", 10)])
def test_fs_comes_from_the_family_unless_given(model_of: Callable[[str], Path], spy: Spy, name: str, fs: int) -> None:
    pipeline = Pipeline(model_of(name))
    pipeline.animate(picture(), steps=1)
    assert spy.first["fs"].tolist() == [fs]
    pipeline.animate(picture(), steps=1, fs=fs + 1)
    assert spy.calls[-1]["fs"].tolist() == [fs + 1]


def test_fs_outside_the_trained_range_is_warned_about(model_of: Callable[[str], Path], spy: Spy) -> None:
    with pytest.warns(UserWarning, match="fs 3 is outside the 15 to 30.*smaller values move more"):
        Pipeline(model_of(ANIMATE)).animate(picture(), steps=1, fs=3)


@pytest.mark.parametrize("frames", [1, 5, 24])
def test_other_lengths_keep_the_tokens_of_their_place_in_time(
    model_of: Callable[[str], Path], spy: Spy, frames: int
) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    pipeline.animate(picture(), steps=1)
    trained = spy.first["image"]
    with pytest.warns(UserWarning, match=f"{frames} frames.*trained at 16"):
        clip = pipeline.animate(picture(), steps=1, frames=frames)
    tokens = spy.calls[-1]["image"]
    assert len(clip.frames) == tokens.shape[1] == frames
    assert torch.equal(tokens[:, 0], trained[:, 0])
    if frames > 1:
        assert torch.equal(tokens[:, -1], trained[:, -1])
        places = [next(k for k in range(16) if torch.equal(tokens[:, f], trained[:, k])) for f in range(frames)]
        assert places == sorted(places) and len(set(places)) == min(16, frames)


def test_long_prompts_are_heard_to_their_end(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    for end in ("cat", "dog"):
        pipeline.animate(picture(), "a very " * 60 + end, steps=1)
    first, second = (call["text"] for call in spy.calls)
    assert first.shape[1] == 2 * 77 and not torch.equal(first[0], second[0])


def test_an_upright_image_makes_an_upright_clip(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    assert pipeline.animate(picture(width=40, height=60), steps=1).frames.shape[1:3] == (WIDTH, HEIGHT)
    assert pipeline.animate(picture(), steps=1).frames.shape[1:3] == (HEIGHT, WIDTH)
    clip = pipeline.animate(picture(width=40, height=60), steps=1, width=32, height=20)
    assert clip.frames.shape[1:3] == (20, 32)
