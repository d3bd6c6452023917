"""Clips longer than a window: every frame covered, weights that sum to one, and the network's own numbers in each window."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import ANIMATE, INTERPOLATE, TOON, Spy, picture

from dynamicrafter_core.diffusion.guidance import Guidance, guided
from dynamicrafter_core.diffusion.sampling import sample_ddim
from dynamicrafter_core.diffusion.windows import FUSES, Windows, fuse, shuffle_noise
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.pipeline.pipeline import Pipeline

LENGTH = 16


@pytest.mark.slow
@pytest.mark.parametrize("how", FUSES)
@pytest.mark.parametrize("closed", [False, True])
def test_every_frame_is_covered_and_weights_sum_to_one_for_every_length(how: str, closed: bool) -> None:
    for frames in range(1, 301):
        for overlap, stride in ((0, 1), (1, 1), (4, 1), (8, 1), (15, 1), (4, 2), (8, 4), (15, 8)):
            windows = Windows(LENGTH, overlap, how, closed, stride)  # type: ignore[arg-type]
            check(windows, frames)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(2, 40),
    st.integers(0, 39),
    st.integers(1, 300),
    st.sampled_from(FUSES),
    st.booleans(),
    st.integers(1, 64),
    st.floats(0, 999),
)
def test_so_do_windows_of_any_length_at_any_timestep(
    length: int, overlap: int, frames: int, how: str, closed: bool, stride: int, timestep: float
) -> None:
    if overlap < length:
        check(Windows(length, overlap, how, closed, stride), frames, timestep)  # type: ignore[arg-type]


def check(windows: Windows, frames: int, timestep: float = 0.0) -> None:
    found = windows.shares(frames, windows.turn(timestep))
    assert all(len(window) == len(set(window)) == min(windows.length, frames) for window, _ in found)
    share = torch.stack([share for _, share in found])
    total = torch.zeros(frames).index_add_(0, torch.tensor([window for window, _ in found]).flatten(), share.flatten())
    assert (share > 0).all() and (total - 1).abs().max() < 1e-5
    places = windows.places(frames)
    if not windows.closed_loop:
        assert max(window[-1] for window in places) == frames - 1
        gaps = [{b - a for a, b in zip(window, window[1:], strict=False)} for window in places]
        assert all(len(found) <= 1 and found <= {1, 2, 4, 8, 16, 32, 64} for found in gaps)
        for gap in {1} | {gap for found in gaps for gap in found}:  # each kind of window covers the clip by itself
            covered = {frame for window, found in zip(places, gaps, strict=True) if found <= {gap} for frame in window}
            assert covered == set(range(frames))


@pytest.mark.parametrize("steps", [8, 25, 40, 50])
def test_a_closed_loop_has_no_frame_where_its_windows_always_meet(steps: int) -> None:
    """A network that answers with the place in the window: what all steps say together is nearly the same for every frame."""
    windows, x = Windows(16, 8, closed_loop=True), torch.zeros(1, 1, 48, 1, 1)
    place = torch.arange(16.0).view(1, 1, 16, 1, 1)

    def spread(turns: list[int]) -> float:
        mean = torch.stack([fuse(windows, x, lambda *_: [place], turn)[0].flatten() for turn in turns]).mean(0)
        return float(mean.max() - mean.min())

    timesteps = [999 - 1000 // steps * step for step in range(steps)]
    assert spread([windows.turn(t) for t in timesteps]) < 0.35 * spread([0])
    assert Windows(16, 8).turn(999) == 0  # a clip with two ends keeps its windows


def test_windows_and_their_weights_by_hand() -> None:
    assert [(w[0], w[-1]) for w in Windows(16, 4).places(40)] == [(0, 15), (12, 27), (24, 39)]
    assert [(w[0], w[-1]) for w in Windows(16, 4).places(41)] == [(0, 15), (12, 27), (24, 39), (25, 40)]
    assert Windows(4, 1, closed_loop=True).places(6) == [[0, 1, 2, 3], [3, 4, 5, 0]]
    assert Windows(4, 1, closed_loop=True).places(6, turn=2) == [[2, 3, 4, 5], [5, 0, 1, 2]]
    assert Windows(6, 2).weights(list(range(6)), 12).tolist() == [1, 2, 3, 3, 2, 1]
    ramped = Windows(6, 2, "overlap-linear")
    assert ramped.weights([0, 1, 2, 3, 4, 5], 10).tolist() == pytest.approx([1, 1, 1, 1, 2 / 3, 1 / 3])
    assert ramped.weights([4, 5, 6, 7, 8, 9], 10).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])


def test_wider_windows_by_hand() -> None:
    places = Windows(4, 2, stride=2).places(9)
    assert [window for window in places if window[1] - window[0] == 2] == [[0, 2, 4, 6], [2, 4, 6, 8], [1, 3, 5, 7]]
    assert Windows(4, 2, stride=4).places(9) == places  # 16 frames would be needed


def test_freenoise_gives_later_windows_the_noise_of_earlier_ones() -> None:
    x = torch.randn(1, 4, 40, 2, 2, generator=torch.Generator().manual_seed(0))
    shuffled = shuffle_noise(x, Windows(16, 4), seed=3)
    assert torch.equal(shuffled[:, :, :16], x[:, :, :16])
    for start in range(16, 40):
        sources = [frame for frame in range(16) if torch.equal(shuffled[:, :, start], x[:, :, frame])]
        assert len(sources) == 1
    for window in Windows(12, 0).places(36):  # without an overlap, each window has each noise once
        part = shuffle_noise(x[:, :, :36], Windows(12, 0), seed=3)[:, :, window].flatten(3).sum((0, 1, 3))
        torch.testing.assert_close(part.sort().values, x[:, :, :12].flatten(3).sum((0, 1, 3)).sort().values)
    assert torch.equal(shuffle_noise(x, Windows(16, 4), seed=3), shuffled)
    assert not torch.equal(shuffle_noise(x, Windows(16, 4), seed=4), shuffled)


def test_prompts_follow_one_another(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    pipeline.animate(picture(), "a", then=["b", "c"], steps=1, frames=12, window=4, overlap=0, text_scale=1)
    first, second, third = (call["text"] for call in spy.calls)
    alone = []
    for prompt in "abc":
        spy.calls.clear()
        pipeline.animate(picture(), prompt, steps=1, frames=4, window=4, text_scale=1)
        alone.append(spy.calls[0]["text"])
    for found, wanted in zip((first, second, third), alone, strict=True):
        torch.testing.assert_close(found, wanted)
    assert not torch.allclose(first, second, atol=1e-3)


def test_fused_answers_are_the_weighted_mean_of_the_windows() -> None:
    x = torch.arange(10.0).view(1, 1, 10, 1, 1)
    first, second = fuse(Windows(6, 2, "flat"), x, lambda window, part: [part * 2, torch.full_like(part, window[0])])
    assert torch.equal(first, 2 * x)
    assert second.flatten().tolist() == [0, 0, 0, 0, 2, 2, 4, 4, 4, 4]


@pytest.mark.slow
def test_one_window_is_bit_identical_to_none(model_of: Callable[[str], Path]) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    frames = pipeline.family.frames
    plain = pipeline.animate(picture(), "a cat", steps=2).frames
    assert torch.equal(pipeline.animate(picture(), "a cat", steps=2, window=frames).frames, plain)
    assert torch.equal(pipeline.animate(picture(), "a cat", steps=2, window=40).frames, plain)


@pytest.mark.parametrize("name", [ANIMATE, INTERPOLATE])
def test_each_window_sees_its_own_frames(name: str, model_of: Callable[[str], Path], spy: Spy) -> None:
    spy.answer = lambda out: out  # so that the answers differ from frame to frame
    pipeline = Pipeline(model_of(name))
    images = [picture(n) for n in range(len(pipeline.family.modes))][: 1 if name == ANIMATE else 2]
    (pipeline.animate if name == ANIMATE else pipeline.interpolate)(*images, steps=1, frames=11, window=4, overlap=1)
    assert [call["x"].shape[2] for call in spy.calls] == [4, 4, 4, 4][: len(spy.calls)]
    starts = [window[0] for window in Windows(4, 1).places(11)]
    assert len(spy.calls) == len(starts) == 4
    concat = [call["x"][0, 4:] for call in spy.calls]
    if name == ANIMATE:
        assert all(torch.equal(each, concat[0]) and each.any() for each in concat)
    else:  # the ends are seen where they are, and nothing between
        assert concat[0][:, 0].any() and not concat[0][:, 1:].any()
        assert not concat[1].any() and not concat[2].any()
        assert concat[3][:, -1].any() and not concat[3][:, :-1].any()
    assert all(torch.equal(call["image"], spy.calls[0]["image"]) for call in spy.calls)
    assert spy.calls[0]["image"].shape[1] == 4


def test_the_clip_is_that_of_an_independent_fusion(model_of: Callable[[str], Path]) -> None:
    """Two overlapping windows, fused here by hand in each step of the core's own sampler."""
    torch.manual_seed(0)
    x_T, weight = torch.randn(1, 4, 6, 4, 4), torch.randn(4, 4)
    schedule = Pipeline(model_of(ANIMATE)).family.schedule()

    def branch(x: torch.Tensor, scale: float) -> torch.Tensor:  # looks along time, as the network does
        return scale * torch.einsum("oc,bcthw->bothw", weight, x - x.mean(2, keepdim=True))

    def by_hand(x: torch.Tensor, t: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        answers = []
        for scale in (0.1 * (k + 1) for k in range(len(names))):
            out = torch.zeros_like(x)
            for start, shares in ((0, [1, 1, 2 / 3, 1 / 3]), (2, [1 / 3, 2 / 3, 1, 1])):
                out[:, :, start : start + 4] += torch.tensor(shares)[:, None, None] * branch(
                    x[:, :, start : start + 4], scale
                )
            answers.append(out)
        return answers

    windows = Windows(4, 2, "overlap-linear")

    def by_us(x: torch.Tensor, t: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        scales = [0.1 * (k + 1) for k in range(len(names))]
        return fuse(windows, x, lambda window, part: [branch(part, scale) for scale in scales])

    both = [
        sample_ddim(guided(run, Guidance(7.5, 3.0, 0.7)), x_T, schedule, 4, "uniform_trailing", eta=0.0)
        for run in (by_hand, by_us)
    ]
    torch.testing.assert_close(*both, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_any_number_of_frames_and_a_closed_loop_come_out(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    assert len(pipeline.animate(picture(), steps=1, frames=300, window=16).frames) == 300
    assert max(call["x"].shape[2] for call in spy.calls) == 16
    spy.calls.clear()
    clip = pipeline.animate(picture(), steps=1, frames=10, window=4, overlap=1, closed_loop=True)
    assert len(clip.frames) == 10 and len(spy.calls) == 4
    assert clip.settings["windows"] == {
        "length": 4,
        "overlap": 1,
        "fuse": "pyramid",
        "closed_loop": True,
        "stride": 1,
        "freenoise": False,
    }


def test_a_distilled_model_has_windows_too(model_of: Callable[[str], Path], spy: Spy) -> None:
    clip = Pipeline(model_of("t2v_turbo_v2_mg")).generate("a panda", steps=2, frames=9, window=4)
    assert len(clip.frames) == 9 and {call["x"].shape[2] for call in spy.calls} == {4}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": 4, "overlap": 4}, "overlap is 4 and window is 4; give an overlap below the window"),
        ({"window": 1}, "window is 1; give a whole number from 2"),
        ({"window": 4, "stride": 0}, "stride is 0; give a whole number from 1 to 64"),
        ({"then": ["b"]}, r"then is \['b'\] and window is missing"),
        ({"window": 4, "then": "b"}, "then is 'b'; give a list of prompts"),
        ({"window": 4, "then": 3}, "then is 3; give a list of prompts"),
        ({"window": 16, "then": ["b"]}, "2 prompts share a clip of 16 frames"),
        ({"window": 4, "fuse": "mean"}, "fuse is 'mean'; give pyramid, flat, overlap-linear"),
        ({"overlap": 2}, "overlap is 2 and window is missing"),
        ({"closed_loop": True}, "closed loop is True and window is missing"),
        ({"window": 4, "frames": 10**6}, "frames is 1000000; give a whole number from 1 to 100000"),
        ({"frames": 257}, "frames is 257"),
    ],
)
def test_bad_windows_are_refused_before_anything_is_computed(
    given: dict, message: str, model_of: Callable[[str], Path]
) -> None:
    with pytest.raises(InputError, match=message):
        Pipeline(model_of(ANIMATE)).animate(picture(), **given)


def test_tooncrafter_has_no_windows(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="decodes a clip as a whole"):
        Pipeline(model_of(TOON)).interpolate(picture(), picture(1), window=4)
