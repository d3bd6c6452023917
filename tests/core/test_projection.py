"""Projected guidance: the paper's formula, on the clean clip that a v or eps network predicts, over a whole clip."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import golden_input
from micro import ANIMATE, Spy, picture

from dynamicrafter_core.diffusion.curves import Curve
from dynamicrafter_core.diffusion.guidance import Guidance, guided
from dynamicrafter_core.diffusion.guidance_plan import GuidancePlan, Limits
from dynamicrafter_core.diffusion.projection import Projection
from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.pipeline.pipeline import Pipeline

SHAPE = [2, 4, 3, 4, 4]
BRANCHES = {name: golden_input(name, SHAPE) for name in ("cond", "uncond", "image_only")}
X = golden_input("x", SHAPE)
SCHEDULES = {
    "v": NoiseSchedule("v"),
    "v, zero SNR and dynamic rescale": NoiseSchedule("v", zero_snr=True, base_scale=0.7),
    "eps": NoiseSchedule("eps"),
    "eps, dynamic rescale": NoiseSchedule("eps", base_scale=0.3),
}
STRONG = Projection(0.25, 0.5, -0.5)


def run(x: torch.Tensor, t: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
    return [x + (1 + t[0] / 1000) * BRANCHES[name] for name in names]


def by_the_paper(clips: dict[str, np.ndarray], scale: float, projection: Projection, steps: int = 1) -> np.ndarray:
    """Single guidance in numpy, for one clip of any shape: `steps` times the same predictions, as its momentum sees them."""
    average = np.zeros_like(clips["cond"])
    for _ in range(steps):
        average = clips["cond"] - clips["uncond"] + projection.momentum * average
    direction = average
    rms = math.sqrt(float((direction**2).mean()))
    direction = direction * min(1, projection.norm / rms) if projection.norm else direction
    unit = clips["cond"] / np.linalg.norm(clips["cond"])
    along = float((direction * unit).sum()) * unit
    return clips["cond"] + (scale - 1) * (direction - along + projection.parallel * along)


def clean_by_hand(schedule: NoiseSchedule, output: torch.Tensor, t: int) -> np.ndarray:
    """What an answer of the network says of the data, from the definitions of v and eps in float64."""
    ac, scale = schedule.alphas_cumprod[t].item(), schedule.scale[t].item()
    answer, x = output.double().numpy(), X.double().numpy()
    if schedule.parameterization == "v":
        return (ac**0.5 * x - (1 - ac) ** 0.5 * answer) / scale
    return (x - (1 - ac) ** 0.5 * answer) / ac**0.5 / scale


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("t", [980, 500, 1])
def test_it_is_the_papers_on_the_clean_clip(name: str, t: int) -> None:
    schedule, times = SCHEDULES[name], torch.tensor([t, t])
    predict = guided(run, Guidance(6.0, projection=STRONG), schedule)
    predict(X, times)
    out = clean_by_hand(schedule, predict(X, times), t)  # the second time, with momentum
    clean = {name: clean_by_hand(schedule, run(X, times, (name,))[0], t) for name in BRANCHES}
    for row in range(2):
        expected = by_the_paper({name: value[row] for name, value in clean.items()}, 6.0, STRONG, steps=2)
        np.testing.assert_allclose(out[row], expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_answer_and_its_clean_clip_are_each_others_inverse(name: str) -> None:
    schedule, answer = SCHEDULES[name], BRANCHES["cond"]
    for t in (999, 700, 1):
        again = schedule.output(schedule.clean(answer, X, t), X, t)
        torch.testing.assert_close(again, answer, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_projection_that_keeps_all_is_plain_guidance(name: str) -> None:
    times, nearly = torch.tensor([600, 600]), Projection(norm=50)
    for scales in ((7.5, 3.0), (7.5, None), (4.0, 1.0), (0.0, 3.0)):
        plain = guided(run, Guidance(*scales, 0.7))(X, times)
        torch.testing.assert_close(
            guided(run, Guidance(*scales, 0.7, nearly), SCHEDULES[name])(X, times), plain, atol=1e-3, rtol=1e-3
        )


def test_switched_off_it_is_plain_guidance_bit_for_bit_and_needs_no_schedule() -> None:
    times = torch.tensor([600, 600])
    assert not Projection() and Projection(parallel=0.5) and Projection(norm=1) and Projection(momentum=0.1)
    assert torch.equal(
        guided(run, Guidance(7.5, 3.0, 0.7, Projection()))(X, times), guided(run, Guidance(7.5, 3.0, 0.7))(X, times)
    )
    with pytest.raises(InputError, match="needs the noise schedule"):
        guided(run, Guidance(7.5, projection=STRONG))(X, times)


def test_each_of_the_two_directions_is_projected() -> None:
    across = Projection(parallel=0)
    clean = {name: value.double() for name, value in BRANCHES.items()}
    out = Guidance(7.5, 3.0, projection=across).project(clean, {})
    expected = clean["cond"]
    for scale, ahead, behind in ((3.0, "image_only", "uncond"), (7.5, "cond", "image_only")):
        direction = clean[ahead] - clean[behind]
        for row in range(2):
            unit = clean["cond"][row] / clean["cond"][row].norm()
            direction[row] -= (direction[row] * unit).sum() * unit
        expected = expected + (scale - 1) * direction
    torch.testing.assert_close(out, expected)
    # Nothing was added along the clip: its share in the result is 1.
    for row, cond in zip(out, clean["cond"], strict=True):
        assert ((row * cond).sum() / cond.square().sum()).item() == pytest.approx(1)


def test_on_v_it_would_be_another_guidance() -> None:
    times, schedule = torch.tensor([300, 300]), SCHEDULES["v"]
    across = Guidance(7.5, projection=Projection(parallel=0))
    answers = dict(zip(BRANCHES, run(X, times, tuple(BRANCHES)), strict=True))
    on_v = across.project({name: answers[name] for name in ("cond", "uncond")}, {})
    assert (guided(run, across, schedule)(X, times) - on_v).abs().max() > 0.1


def test_all_frames_of_a_clip_keep_the_same_share_and_clips_do_not_meet() -> None:
    """Where all frames of the direction and the clip are alike but for their strength, so are those of the result."""
    strengths = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    clean = {name: value[:, :, :1] * strengths for name, value in BRANCHES.items() if name != "image_only"}
    guidance = Guidance(6.0, projection=Projection(0.25, 0.5))
    out = guidance.project(clean, {})
    torch.testing.assert_close(out, out[:, :, :1] * strengths)
    alone = [guidance.project({name: value[row : row + 1] for name, value in clean.items()}, {}) for row in range(2)]
    torch.testing.assert_close(out, torch.cat(alone))


def test_the_norm_is_a_limit_of_the_root_mean_square() -> None:
    strong, clip = 10 * BRANCHES["cond"], BRANCHES["uncond"]
    limited = Projection(norm=0.5).apply(strong, clip, "d", {})
    assert [row.square().mean().sqrt().item() for row in limited] == pytest.approx([0.5, 0.5], rel=1e-4)
    weak = 0.01 * strong
    assert torch.equal(Projection(norm=0.5).apply(weak, clip, "d", {}), weak)


def test_momentum_belongs_to_one_run() -> None:
    guidance, times = Guidance(6.0, projection=Projection(momentum=-0.5)), torch.tensor([500, 500])
    first = guided(run, guidance, SCHEDULES["v"])
    begun, gone_on = first(X, times), first(X, times)
    assert not torch.allclose(begun, gone_on)
    assert torch.equal(guided(run, guidance, SCHEDULES["v"])(X, times), begun)


def test_a_clip_of_zeros_is_no_division_by_zero() -> None:
    zeros = torch.zeros(SHAPE)
    out = Guidance(6.0, projection=STRONG).project({"cond": zeros, "uncond": zeros}, {})
    assert torch.equal(out, zeros)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("parallel 0", Limits(projection=Projection(0.0))),
        ("from 0.1, norm 0.5, momentum -0.5, to 0.9", Limits(0.1, 0.9, Projection(1.0, 0.5, -0.5))),
        ("parallel 1, norm 0", Limits()),
        ("parallel 2", "the parallel part of guidance is 2.0; give a number from 0 to 1"),
        ("norm -1", "the norm of guidance is -1.0; give a number from 0 to 100"),
        ("momentum nan", "the momentum of guidance is nan; give a number from -1 to 1"),
        ("along 0", "guidance limits hold 'along 0'; give parts such as"),
    ],
)
def test_it_is_read_from_words(text: str, found: Limits | str) -> None:
    if isinstance(found, Limits):
        assert Limits.read(text) == found
        return
    with pytest.raises(InputError, match=found):
        Limits.read(text)


def test_a_plan_hands_it_to_every_guided_step() -> None:
    plan = GuidancePlan(Curve.flat(7.5), None, 0.7, Limits(0.2, 0.8, STRONG))
    assert plan.at(0.5) == Guidance(7.5, None, 0.7, STRONG)
    assert not plan.at(0.1).projection


@pytest.mark.slow
def test_it_changes_a_clip_and_costs_no_pass(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    options: dict[str, Any] = {"steps": 2, "image_scale": 3.0}
    pipeline.animate(picture(), "a cat", **options, guidance_limits="parallel 0, norm 0.5, momentum -0.5")
    assert [len(call["text"]) for call in spy.calls] == [3, 3]


@pytest.mark.slow
def test_two_clips_of_one_pipeline_share_no_momentum(model_of: Callable[[str], Path]) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    options: dict[str, Any] = {"steps": 2, "start_step": 940, "guidance_limits": "momentum -0.5"}
    once = pipeline.animate(picture(), "a cat", **options)
    again = pipeline.animate(picture(), "a cat", **options)
    assert torch.equal(once.frames, again.frames)
    plain = pipeline.animate(picture(), "a cat", steps=2, start_step=940)
    assert not torch.equal(once.frames, plain.frames)
