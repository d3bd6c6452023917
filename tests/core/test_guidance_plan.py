"""Guidance that changes over a run: curves of its scales, and an interval outside which it costs nothing."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import golden_input
from micro import ANIMATE, Spy, micro_checkpoint, picture

from dynamicrafter_core.checkpoints.checkpoint import Checkpoint
from dynamicrafter_core.diffusion.curves import Curve
from dynamicrafter_core.diffusion.guidance import Guidance, guided
from dynamicrafter_core.diffusion.guidance_plan import GuidancePlan, Limits
from dynamicrafter_core.diffusion.sampling import sample_ddim
from dynamicrafter_core.diffusion.schedule import NoiseSchedule, ddim_timesteps
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.pipeline.pipeline import Pipeline

SHAPE = [1, 4, 3, 4, 4]
BRANCHES = {name: golden_input(name, SHAPE) for name in ("cond", "uncond", "image_only")}


def scale(given: object) -> Curve:
    return Curve.read("cfg", given, 0, 100)


def test_a_curve_is_linear_between_its_points_and_flat_beyond_them() -> None:
    curve = scale("0.2: 9, 0.6: 7, 1: 3")
    seen = [curve.at(done) for done in (0, 0.2, 0.3, 0.6, 0.8, 1)]
    assert seen == pytest.approx([9, 9, 8.5, 7, 5, 3])
    assert [scale("0.4: 9, 0.6: 7").at(done) for done in (0, 1)] == [9, 7]


def test_a_number_is_itself_in_every_step() -> None:
    for given in (7.3, "7.3", "0: 7.3", "0.5: 7.3, 1: 7.3"):
        assert scale(given).constant
        assert {scale(given).at(done / 999) for done in range(1000)} == {7.3}
        assert scale(given).told() == 7.3
    assert not scale("0: 7, 1: 7.3").constant


def test_a_curve_tells_what_makes_it_again() -> None:
    for text in ("0: 9, 0.5: 7.5, 1: 3", "0.123456: 1.23456789, 1: 100"):
        assert scale(scale(text).told()) == scale(text) == scale(scale(text))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("fast", "cfg is 'fast'; give a number from 0 to 100, or points"),
        ("", "cfg is ''"),
        ("7, 3", "cfg is '7, 3'"),
        ("0: 9, 3", "cfg is '0: 9, 3', with 0 after 0; give shares of the run that rise"),
        ("0: 9: 3", "cfg is '0: 9: 3'"),
        ("0: 9,", "cfg is '0: 9,'"),
        ("0.5: 9, 0.5: 3", "0.5 after 0.5"),
        ("0.5: 9, 0.2: 3", "0.2 after 0.5"),
        ("0: 9, 1.5: 3", "a share of the run in cfg .* is 1.5; give a number from 0 to 1"),
        ("0: 9, 1: -3", "cfg at 1 is -3.0; give a number from 0 to 100"),
        ("nan", "cfg at 0 is nan"),
        (math.inf, "cfg is inf; give a number from 0 to 100"),
        (True, "cfg is True"),
        (None, "cfg is None"),
    ],
)
def test_what_is_no_curve_is_refused_in_a_sentence(given: object, named: str) -> None:
    with pytest.raises(InputError, match=named) as refusal:
        scale(given)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", Limits()),
        ("from 0.1, to 0.8", Limits(0.1, 0.8)),
        (" to 0.5 ", Limits(0, 0.5)),
        ("from 1, to 0.5", "starts at 1 and ends at 0.5; the end must come later"),
        ("from 0.5, to 0.5", "the end must come later"),
        ("to 2", "where guidance ends is 2.0; give a number from 0 to 1"),
        ("until 0.8", "guidance limits hold 'until 0.8'"),
        ("from", "guidance limits hold 'from'"),
        ("from 0.1 to 0.8", "guidance limits hold 'from 0.1 to 0.8'"),
    ],
)
def test_limits_are_read_from_words(text: str, limits: Limits | str) -> None:
    if isinstance(limits, Limits):
        assert Limits.read(text) == limits
        return
    with pytest.raises(InputError, match=limits):
        Limits.read(text)


def test_outside_the_interval_the_network_runs_on_the_conditions_alone() -> None:
    plan = GuidancePlan(scale(7.5), scale(3.0), 0.7, Limits(0.25, 0.75))
    ran: list[tuple[int, tuple[str, ...]]] = []

    def run(x: torch.Tensor, t: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        ran.append((int(t[0]), names))
        return [x + BRANCHES[name] for name in names]

    x, predict = golden_input("x", SHAPE), guided(run, plan)
    inside, outside = Guidance(7.5, 3.0, 0.7), torch.tensor([999])
    assert torch.equal(predict(x, outside), x + BRANCHES["cond"])
    torch.testing.assert_close(
        predict(x, torch.tensor([500])), inside.combine(**{name: x + value for name, value in BRANCHES.items()})
    )
    assert torch.equal(predict(x, torch.tensor([0])), x + BRANCHES["cond"])
    assert ran == [(999, ("cond",)), (500, ("cond", "uncond", "image_only")), (0, ("cond",))]


def test_a_constant_plan_is_plain_guidance_bit_for_bit() -> None:
    schedule = NoiseSchedule("v", zero_snr=True, base_scale=0.7)

    def run(x: torch.Tensor, t: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        return [0.3 * x + BRANCHES[name] for name in names]

    def clip(guidance: Any) -> torch.Tensor:
        return sample_ddim(guided(run, guidance), golden_input("x", SHAPE), schedule, 6, "uniform_trailing", eta=0.0)

    for text, image, rescale in ((7.5, 3.0, 0.7), (7.5, None, 0.0), (1.0, None, 0.7)):
        plan = GuidancePlan(scale(text), None if image is None else scale(image), rescale)
        assert plan.constant
        assert torch.equal(clip(plan), clip(Guidance(text, image, rescale)))


def test_a_curve_reaches_each_step_with_its_own_scale() -> None:
    schedule, plan = NoiseSchedule("v"), GuidancePlan(scale("0: 9, 1: 1"))
    scales = {t: plan.at(1 - t / 999).text_scale for t in ddim_timesteps(8, "uniform_trailing")}
    assert scales == pytest.approx({t: 1 + 8 * t / 999 for t in scales})
    asked: list[float] = []

    def run(x: torch.Tensor, t: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        asked.append(float(t[0]))
        return [torch.full_like(x, float(name == "cond")) for name in names]

    predict, seen = guided(run, plan), []

    def watched(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        out = predict(x, t)
        seen.append(float(out.mean()))
        return out

    sample_ddim(watched, torch.zeros(SHAPE), schedule, 8, "uniform_trailing", eta=0.0)
    assert seen == pytest.approx([scales[int(t)] for t in asked])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, [3, 3, 3, 3]),
        ({"guidance_limits": "from 0.3, to 0.6"}, [1, 1, 3, 1]),
        ({"guidance_limits": "to 0.3"}, [3, 3, 1, 1]),
        ({"text_scale": "0: 7.5, 0.6: 1", "image_scale": None}, [2, 2, 2, 1]),
        ({"text_scale": "0.3: 7.5, 0.6: 4", "image_scale": "0.3: 7.5, 0.6: 1"}, [2, 2, 3, 2]),
    ],
)
def test_an_interval_and_a_curve_leave_out_passes(
    model_of: Callable[[str], Path], spy: Spy, options: dict[str, Any], rows: list[int]
) -> None:
    """Four steps at the shares 0, 0.25, 0.5 and 0.75 of the run."""
    Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", steps=4, **{"image_scale": 3.0, **options})
    assert [len(call["text"]) for call in spy.calls] == rows


@pytest.mark.slow
def test_after_steps_of_one_branch_the_others_still_go_in_one_batch(model_of: Callable[[str], Path], spy: Spy) -> None:
    Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", steps=4, image_scale=3.0, guidance_limits="from 0.3")
    assert [len(call["text"]) for call in spy.calls] == [1, 1, 3, 3]


@pytest.mark.slow
def test_a_clip_tells_its_curves_and_is_the_same_from_what_it_tells(model_of: Callable[[str], Path]) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    first = pipeline.animate(
        picture(), "a", steps=2, text_scale="0: 9, 1: 2", image_scale="3", guidance_limits="to 0.9"
    )
    told = first.settings
    assert (told["text_scale"], told["image_scale"]) == ("0: 9, 1: 2", 3.0)
    assert told["guidance_limits"]["end"] == 0.9
    scales = {"text_scale": told["text_scale"], "image_scale": told["image_scale"]}
    again = pipeline.animate(picture(), "a", steps=2, **scales, guidance_limits="to 0.9")
    assert torch.equal(first.frames, again.frames)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"text_scale": "0: 9, 2: 3"}, "a share of the run in cfg"),
        ({"image_scale": "soft"}, r"cfg-image \(image scale\) is 'soft'"),
        ({"text_scale": "0: 900"}, "cfg .* at 0 is 900.0"),
        ({"guidance_limits": "from 0.9, to 0.1"}, "the end must come later"),
        ({"guidance_limits": 0.5}, "guidance_limits is a float; give text"),
    ],
)
def test_bad_guidance_is_refused_before_anything_is_loaded(
    model_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], named: str
) -> None:
    monkeypatch.setattr(Checkpoint, "load", lambda *_, **__: pytest.fail("a part was loaded"))
    with pytest.raises(InputError, match=named):
        Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"text_scale": "0: 9, 1: 3"}, "curve '0: 9, 1: 3', but t2v_turbo_vc2 is distilled"),
        ({"guidance_limits": "to 0.5"}, "guidance limits is given, but t2v_turbo_vc2 is distilled"),
    ],
)
def test_a_distilled_model_has_one_scale(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    pipeline = Pipeline(micro_checkpoint(tmp_path / "turbo.safetensors", "t2v_turbo_vc2"))
    with pytest.raises(InputError, match=named):
        pipeline.generate("a cat", **options)
