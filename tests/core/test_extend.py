"""A clip that goes on from another one: what it begins with, what it gives, and how it is joined."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, INTERPOLATE, WIDTH, Spy, picture

from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.colour import hold_colour, match_colour
from dynamicrafter_core.media.saving import read_settings, save_clip
from dynamicrafter_core.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.slow
ModelOf = Callable[[str], Path]


@pytest.fixture
def pipeline(model_of: ModelOf) -> Pipeline:
    return Pipeline(model_of(ANIMATE))


@pytest.mark.parametrize("keep", [1, 3])
def test_the_network_sees_the_kept_latents_at_each_noise_level(keep: int, pipeline: Pipeline, spy: Spy) -> None:
    first = pipeline.animate(picture(), "a", steps=2)
    assert first.latents is not None and first.latents.shape[1] == FRAMES
    spy.calls.clear()
    spy.answer = lambda out: out
    more = pipeline.extend(first, "b", keep=keep, steps=4, seed=5, match=False)
    assert len(more.frames) == FRAMES - keep and more.latents is not None
    assert more.latents.shape[1] == FRAMES - keep
    schedule, kept = pipeline.family.schedule(), first.latents[:, -keep:]
    for call in spy.calls[-1:]:  # the last step is the least noisy one
        t = int(call["t"][0])
        signal = schedule.q_sample(kept, t, torch.zeros_like(kept))
        spread = (1 - schedule.alphas_cumprod[t]).sqrt()
        noise = (call["x"][0, :4, :keep] - signal) / spread
        assert abs(noise.mean()) < 0.2 and abs(noise.std() - 1) < 0.2
    concat = spy.calls[0]["x"][0, 4:]
    for frame in range(FRAMES):
        torch.testing.assert_close(concat[:, frame], kept[:, 0])


def test_it_is_the_clip_that_a_mask_by_hand_makes_without_what_was_there(pipeline: Pipeline) -> None:
    first = pipeline.animate(picture(), "a", steps=2)
    more = pipeline.extend(list(first.frames[-1:].numpy()), "b", steps=2, seed=5, match=False)
    mask = [1.0] + [0.0] * (FRAMES - 1)
    original = first.frames[-1:].repeat(FRAMES, 1, 1, 1)
    with pytest.raises(InputError, match="mask is given, but extending a clip sets its own"):
        pipeline.extend(first, "b", mask=mask)
    by_hand = pipeline.animate(original[0].numpy(), "b", steps=2, seed=5, original=original, mask=mask)
    assert more.latents is not None and by_hand.latents is not None
    torch.testing.assert_close(more.latents, by_hand.latents[:, 1:], atol=1e-3, rtol=1e-3)
    assert len(more.frames) == FRAMES - 1 and len(by_hand.frames) == FRAMES
    assert more.settings["keep"] == 1 and more.settings["seed"] == 5


def test_a_clip_goes_on_in_its_own_size(pipeline: Pipeline, spy: Spy) -> None:
    side = 2 * pipeline.multiple
    first = pipeline.animate(picture(), "a", steps=1, width=side, height=side)
    spy.calls.clear()
    more = pipeline.extend(first, "b", steps=1, image=picture())
    assert first.latents is not None and more.frames.shape[1:3] == (side, side)
    torch.testing.assert_close(spy.calls[0]["x"][0, 4:, 0], first.latents[:, -1])  # its latent, not encoded anew


def test_the_context_shows_the_image_that_is_given(pipeline: Pipeline, spy: Spy) -> None:
    first = pipeline.animate(picture(), "a", steps=1)
    seen = []
    for image in (picture(), picture(3), None):
        spy.calls.clear()
        pipeline.extend(first, "b", steps=1, image=image)
        seen.append(spy.calls[0]["image"])
    assert not torch.equal(seen[0], seen[1])
    spy.calls.clear()
    pipeline.extend(first, "b", steps=1, image=first.frames[0].numpy())
    assert torch.equal(seen[2], spy.calls[0]["image"])


def test_colours_go_on_at_the_joint_and_are_free_in_the_end() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randint(60, 190, (8, 8, 3), generator=generator).float()
    dull = (base - 125) * 0.7 + 110 + torch.tensor([5.0, 0.0, -5.0])
    frames = dull.expand(4, 8, 8, 3).round().to(torch.uint8)
    matched = match_colour(frames, base.to(torch.uint8))
    assert (matched[0].float() - base).abs().max() <= 2
    errors = (matched.float() - base).abs().mean((1, 2, 3))
    assert (errors[1:] > errors[:-1]).all() and errors[-1] < (frames[0].float() - base).abs().mean()
    same = base.to(torch.uint8)
    assert torch.equal(match_colour(same.expand(4, 8, 8, 3), same), same.expand(4, 8, 8, 3))
    flat = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    assert torch.equal(match_colour(flat, flat[0]), flat)


def test_held_colours_lead_back_to_the_picture_without_a_step() -> None:
    generator = torch.Generator().manual_seed(0)
    scene = torch.randint(60, 190, (8, 8, 3), generator=generator).float()
    before, frames = (scene - 20).to(torch.uint8), (scene - 30).to(torch.uint8).expand(5, 8, 8, 3)
    held = hold_colour(frames, before, scene.to(torch.uint8)).float().mean((1, 2, 3)) - scene.mean()
    torch.testing.assert_close(held, torch.tensor([-16.0, -12.0, -8.0, -4.0, 0.0]), atol=0.6, rtol=0)


def test_the_command_line_joins_a_clip_for_each_prompt(
    model_of: ModelOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    video = np.stack([picture(n) for n in range(5)])[:, :HEIGHT, :WIDTH]
    save_clip(video, "video.mp4", fps=12)
    asked = ["-m", str(model_of(ANIMATE)), "--steps", "1", "--seed", "4", "--quiet"]
    assert main(["extend", "video.mp4", "a", "b", *asked, "-o", "longer.mp4"]) == 0
    assert main(["extend", "video.mp4", "a", *asked, "--keep", "2", "--only-new"]) == 0
    found = {}
    for name in ("video.mp4", "longer.mp4", "video-extend.mp4"):
        with av.open(name) as container:
            rate = container.streams.video[0].average_rate
            found[name] = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert rate == 12
    assert [len(frames) for frames in found.values()] == [5, 5 + 2 * (FRAMES - 1), FRAMES - 2]
    settings = read_settings("longer.mp4")
    assert (settings["prompt"], settings["seed"], settings["keep"]) == ("a | b", 4, 1)


def test_what_cannot_go_on_is_refused(model_of: ModelOf, pipeline: Pipeline, tmp_path: Path) -> None:
    video = [picture()] * 3
    with pytest.raises(InputError, match="keep is 5; give a whole number from 1 to 3"):
        pipeline.extend(video, "a", keep=5)
    with pytest.raises(InputError, match="frames is 2; give a whole number from 3"):
        pipeline.extend(video, "a", keep=2, frames=2)
    with pytest.raises(InputError, match="nowhere.mp4 does not exist"):
        pipeline.extend(tmp_path / "nowhere.mp4", "a")
    with pytest.raises(InputError, match="cannot animate"):
        Pipeline(model_of(INTERPOLATE)).extend(video, "a")
