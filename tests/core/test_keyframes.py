"""Keyframes of any distance, how long each is shown, and a frame that is the picture itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, INTERPOLATE, WIDTH, Spy, picture
from PIL import Image
from torch import Tensor

from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.images import fit_image, read_image
from dynamicrafter_core.media.saving import read_settings
from dynamicrafter_core.pipeline.conditions import spread_strengths
from dynamicrafter_core.pipeline.keyframes import Keyframe, between
from dynamicrafter_core.pipeline.pipeline import Pipeline

ModelOf = Callable[[str], Path]


@pytest.mark.parametrize("most", [4, 16])
def test_a_way_of_any_length_is_even_and_ends_where_it_should(most: int) -> None:
    """A maker of straight lines gives a straight line, but for half a step each of the places it is cut and taken at."""

    def level(end: Keyframe) -> float:
        return float(end.image.mean()) if isinstance(end.image, Tensor) else end.image

    def make(first: Keyframe, last: Keyframe) -> Tensor:
        made.append((first.frame, last.frame))
        return torch.linspace(level(first), level(last), most)[:, None, None, None].expand(-1, 1, 1, 3)

    for gap in range(1, 301):
        made: list[tuple[int, int]] = []
        way = between(make, Keyframe(0.0, 0), Keyframe(1.0, gap), most)[:, 0, 0, 0]
        assert len(way) == gap + 1 and way[0] == 0 and way[-1] == 1
        assert (way.diff() >= 0).all()
        step = 1 / min(gap, most - 1)  # of the coarser of the way and the clip that it is taken from
        assert (way - torch.linspace(0, 1, gap + 1)).abs().max() < 0.65 * step
        assert made[0] == (0, gap) and len(made) < 3 * (1 + gap / (most - 1))


def test_strengths_belong_to_the_half_that_is_nearer() -> None:
    assert spread_strengths((1.0, 1.0), 4) is None
    torch.testing.assert_close(spread_strengths((0.2, 0.6), 5), torch.tensor([0.2, 0.2, 0.2, 0.6, 0.6]))
    torch.testing.assert_close(spread_strengths((0.3,), 2), torch.tensor([0.3, 0.3]))


@pytest.mark.slow
def test_two_keyframes_of_a_clips_length_are_an_interpolation(model_of: ModelOf) -> None:
    pipeline = Pipeline(model_of(INTERPOLATE))
    asked = {"steps": 2, "seed": 4}
    clip = pipeline.keyframes([Keyframe(picture(0), 0), Keyframe(picture(1), FRAMES - 1)], "a", **asked)
    assert torch.equal(clip.frames, pipeline.interpolate(picture(0), picture(1), "a", **asked).frames)


@pytest.mark.slow
def test_each_way_has_its_own_prompt_and_seed_and_no_frame_stands_twice(model_of: ModelOf) -> None:
    pipeline = Pipeline(model_of(INTERPOLATE))
    keyframes = [Keyframe(picture(k), frame) for k, frame in ((2, 20), (0, 0), (1, 15))]
    clip = pipeline.keyframes(keyframes, ["a", "b"], steps=1, seed=4)
    first = pipeline.interpolate(picture(0), picture(1), "a", steps=1, seed=4)
    second = pipeline.interpolate(picture(1), picture(2), "b", steps=1, seed=5)
    places = torch.tensor([3, 6, 9, 12, 15])  # of 16 frames, six at equal distances, without the first
    assert torch.equal(clip.frames, torch.cat([first.frames, second.frames[places]]))
    assert clip.settings["keyframes"] == [[0, 1], [15, 1], [20, 1]] and clip.settings["prompt"] == ["a", "b"]
    assert len(pipeline.keyframes(keyframes[:2], steps=1).frames) == 21


@pytest.mark.slow
def test_a_weak_keyframe_is_shown_in_the_first_part_of_the_run(model_of: ModelOf, spy: Spy) -> None:
    pipeline = Pipeline(model_of(INTERPOLATE))
    pipeline.keyframes([Keyframe(picture(0), 0, 0.5), Keyframe(picture(1), 15)], steps=4)
    shown = [(1 - int(call["t"][0]) / 999, call["x"][0, 4:].abs().sum((0, 2, 3))) for call in spy.calls]
    assert len(shown) == 4
    for share, concat in shown:
        assert (concat[0] > 0) == (share < 0.5) and concat[-1] > 0 and not concat[1:-1].any()


@pytest.mark.slow
@pytest.mark.parametrize("frame", [0, 5, -1])
def test_the_image_stands_at_any_frame(frame: int, model_of: ModelOf, spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    clip = pipeline.animate(picture(), "a", steps=3, lock=frame)
    image = spy.first["x"][0, 4:, 0]
    assert clip.latents is not None and clip.settings["lock"] == frame % FRAMES
    torch.testing.assert_close(clip.latents[:, frame], image, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(clip.latents[:, frame - 1], image, atol=0.1)
    pasted = pipeline.animate(picture(), "a", steps=3, lock=frame, paste=True).frames
    fitted = (fit_image(read_image(picture()), WIDTH, HEIGHT) + 1) * 127.5
    assert (pasted[frame].float() - fitted.movedim(0, -1)).abs().max() <= 0.51
    others = [k for k in range(FRAMES) if k != frame % FRAMES]
    assert torch.equal(pasted[others], clip.frames[others])


@pytest.mark.parametrize(
    ("keyframes", "prompts", "said"),
    [
        ([], "", "there are no keyframes; give two or more"),
        ([(0, 0)], "", "there is 1 keyframe; give two or more"),
        ([(0, 0), (1, 0)], "", "two keyframes are at frame 0"),
        ([(0, 3), (1, 9)], "", "the first keyframe is at frame 3; give one at frame 0"),
        ([(0, 0), (1, -4)], "", "a keyframe's frame is -4; give"),
        ([(0, 0), (1, 8, float("nan"))], "", "a keyframe's strength is nan; give"),
        (
            [(0, 0), (1, 8), (2, 16)],
            ["a", "b", "c"],
            "there are 3 prompts for 2 stretches between keyframes; give one, or 2",
        ),
    ],
)
def test_bad_keyframes_are_refused(keyframes: list, prompts: str | list, said: str, model_of: ModelOf) -> None:
    with pytest.raises(InputError) as error:
        Pipeline(model_of(INTERPOLATE)).keyframes([Keyframe(picture(k[0]), *k[1:]) for k in keyframes], prompts)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"lock": 16}, "lock is 16; give a whole number from -16 to 15"),
        ({"paste": True}, "paste is given and lock is missing"),
        ({"lock": 0, "mask": [1.0] * FRAMES}, "lock and mask cannot be combined"),
        ({"picture_strengths": (1, 1)}, r"picture strengths are \(1, 1\); give one number"),
        ({"picture_strengths": (2,)}, "picture strength is 2; give a number from 0 to 1"),
        ({"picture_strengths": 5}, "picture strengths are 5; give one number"),
    ],
)
def test_bad_locks_are_refused(asked: dict, said: str, model_of: ModelOf) -> None:
    with pytest.raises(InputError, match=said):
        Pipeline(model_of(ANIMATE)).animate(picture(), **asked)


@pytest.mark.slow
def test_the_command_line_reads_frames_and_strengths(
    model_of: ModelOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate(("a.png", "b.png", "c@2.png")):
        Image.fromarray(picture(k)).save(name)
    asked = ["-m", str(model_of(INTERPOLATE)), "--steps", "1", "--quiet"]
    assert main(["keyframes", "a.png", "b.png@8:0.5", "c@2.png", "--prompt", "x", "--prompt", "y", *asked]) == 0
    settings = read_settings("a-keyframes.mp4")
    assert settings["keyframes"] == [[0, 1], [8, 0.5], [23, 1]] and settings["prompt"] == ["x", "y"]
    assert main(["keyframes", "a.png", "b.png@0", *asked]) == 2
    assert capsys.readouterr().err == "dynamicrafter: two keyframes are at frame 0; give each its own.\n"
    assert main(["keyframes", "a.png", "9" * 5000, *asked]) == 2
    assert "999" in capsys.readouterr().err
    assert main(["keyframes", "a.png", "b.png@4:1.2.3", *asked]) == 2
