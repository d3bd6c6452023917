"""What is reused between steps: counts that are exact, nothing where it is off, and nothing from another run, branch or clip."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from micro import ANIMATE, micro_checkpoint, picture

from dynamicrafter_core.diffusion import reuse
from dynamicrafter_core.diffusion.reuse import EXACT, PRESETS, KeptInner, ReusePlan, Speed, keep_clip, spread
from dynamicrafter_core.diffusion.sampling import executed_timesteps, sample_ddim
from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.hooks import AttentionHooks, BlockHooks, Hooks, InnerHook
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.models.unet_config import UNetConfig
from dynamicrafter_core.pipeline.pipeline import Pipeline

BLOCKS = 6  # input blocks of the UNet below


@pytest.fixture(scope="module")
def unet() -> VideoUNet:
    torch.manual_seed(0)
    made = VideoUNet(
        UNetConfig(model_channels=32, channel_mult=(1, 2, 2), res_blocks=1, head_channels=8, context_dim=12)
    ).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made


def inputs(seed: int, branches: int = 1) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(1, 8, 2, 8, 8, generator=random),
        "timesteps": torch.tensor([500]),
        "text": torch.randn(branches, 5, 12, generator=random),
        "image": torch.randn(branches, 2, 4, 12, generator=random),
    }


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("total", [1, 2, 3, 7, 15, 50, 1000])
def test_the_network_runs_in_the_asked_share_of_steps_rounded_up(total: int, share: float) -> None:
    places = spread(total, share)
    assert len(places) == min(total, max(2, -int(-share * total // 1)))
    assert places == sorted(set(places))
    assert (places[0], places[-1]) == (0, total - 1)


def test_steps_lie_closer_towards_the_end() -> None:
    places = spread(50, 0.2)
    gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > gaps[-1]


def test_presets_and_parts_are_read() -> None:
    assert Speed.read("") == Speed.read("exact") == PRESETS["exact"] == EXACT
    assert Speed.read(" fast ") == PRESETS["fast"]
    assert Speed.read("inner 3, steps 0.4") == Speed(0.4, 3)


@pytest.mark.parametrize(
    "text, said",
    [
        ("quick", "speed holds 'quick'; give exact, balanced, fast, or parts such as"),
        ("steps", "speed holds 'steps'"),
        ("inner 1.5", "speed holds 'inner 1.5'"),
        ("steps 2", "the share of steps is 2"),
        ("inner 0", "the interval of inner blocks is 0"),
    ],
)
def test_a_speed_that_is_none_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Speed.read(text)


def test_a_plan_names_the_levels_and_runs_in_full_at_those_it_does_not_know() -> None:
    plan = ReusePlan.of(Speed(0.5, 2), [9.0, 7.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    runs = [level for level in plan.levels if plan.runs_at(level)]
    assert runs == [9.0, 5.0, 2.0, 1.0]
    assert [level for level in runs if plan.whole_at(level)] == [9.0, 5.0, 2.0]
    assert plan.runs_at(6.0) and plan.whole_at(6.0)


def test_the_inner_blocks_rest_in_the_second_half_of_a_run_and_in_its_last_step() -> None:
    def rests(speed: Speed, steps: int) -> list[int]:
        plan = ReusePlan.of(speed, list(range(steps, 0, -1)))
        return [place for place in plan.runs if place not in plan.whole]

    assert rests(Speed(inner=2), 8) == [5, 7]
    assert rests(Speed(inner=3), 8) == [4, 6, 7]
    assert rests(Speed(inner=1), 8) == []
    assert rests(PRESETS["balanced"], 15) == [10, 14]
    assert rests(PRESETS["fast"], 15) == [14]
    assert rests(PRESETS["fast"], 1) == []


def test_the_kept_clip_is_what_the_sampler_goes_on_towards() -> None:
    """With a network that always sees the same clip, leaving out steps changes nothing but rounding."""
    schedule = NoiseSchedule("v", zero_snr=True, base_scale=0.7)
    clip, start = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 4, 2, 4, 4)
    asked: list[int] = []

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(int(t[0]))
        return schedule.output(clip, x, t)

    timesteps = executed_timesteps(10, "uniform_trailing")[::-1]
    plan = ReusePlan.of(Speed(0.4), timesteps)
    given = start, schedule, 10, "uniform_trailing", 1.0
    made = sample_ddim(keep_clip(predict, schedule, plan), *given, generator=torch.Generator().manual_seed(1))
    assert asked == [timesteps[place] for place in plan.runs]
    full = sample_ddim(predict, *given, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(made, full, atol=1e-5)


def test_with_all_steps_the_prediction_is_the_function_itself() -> None:
    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x

    assert keep_clip(predict, NoiseSchedule("v"), ReusePlan.of(EXACT, [3, 2, 1])) is predict


def test_the_inner_hook_stands_around_what_lies_between_a_skip_and_its_output_block(unet) -> None:
    """Whatever happens inside comes out of `compute`, and a kept stream gives the same answer without it."""
    given, seen, kept = inputs(1, branches=2), [], {}

    def compute(inner, where):
        kept["stream"] = inner()
        assert (where.place, where.shape[2:]) == ("output 4", kept["stream"].shape[2:])
        return kept["stream"]

    def spy(h, where):
        seen.append(where.place)
        return h

    blocks = {name: BlockHooks(after=(spy,)) for name in unet.places if "attn" not in name}
    plain = unet(**given)
    assert torch.equal(unet(**given, hooks=Hooks(inner=InnerHook("output 4", compute))), plain)
    again = Hooks(blocks, inner=InnerHook("output 4", lambda inner, where: kept["stream"]))
    assert torch.equal(unet(**given, hooks=Hooks(inner=again.inner)), plain)
    unet(**given, hooks=again)
    assert seen == ["input 0", "input 1", "output 4", "output 5"]


@pytest.mark.parametrize("place", ["middle", "input 3", "output 99"])
def test_the_inner_part_ends_at_an_output_block(unet, place: str) -> None:
    with pytest.raises(InputError, match="The inner part of the UNet cannot end at"):
        unet(**inputs(1), hooks=Hooks(inner=InnerHook(place, lambda inner, where: inner())))


def test_two_features_cannot_both_leave_out_the_inner_part() -> None:
    one = Hooks(inner=InnerHook("output 1", lambda inner, where: inner()))
    with pytest.raises(InputError, match="only one can"):
        one.then(one)


def planned(every: int = 2) -> KeptInner:
    whole = (0, 2) if every == 2 else (0, 1, 2, 3)
    return KeptInner(ReusePlan((500, 400, 300, 200), (0, 1, 2, 3), whole))


def test_an_interval_of_one_and_a_shallow_unet_have_no_hook() -> None:
    assert not planned(1).hooks(BLOCKS, 500, ["a"])
    assert not planned(2).hooks(2, 500, ["a"])


def test_between_whole_runs_only_the_outer_blocks_run(unet) -> None:
    kept, ran = planned(), []
    spy = Hooks(blocks={"middle": BlockHooks(after=(lambda h, where: ran.append(0) or h,))})
    for level in (500, 400, 300, 200):
        unet(**inputs(1), hooks=spy.then(kept.hooks(BLOCKS, level, ["a"])))
        ran.append(level)
    assert ran == [0, 500, 400, 0, 300, 200]
    assert kept.bytes == 2 * 32 * 2 * 8 * 8 * 4  # 2 frames of 64 channels


def test_each_branch_and_each_clip_has_a_stream_of_its_own(unet) -> None:
    """Two clips in turn, and branches in another order or one by one, come out as each does alone."""
    first, second = inputs(1, 2), inputs(2, 2)
    later = {"x": inputs(3)["x"]}

    def alone(given) -> torch.Tensor:
        kept = planned()
        unet(**given, hooks=kept.hooks(BLOCKS, 500, ["cond", "uncond"]))
        return unet(**{**given, **later}, hooks=kept.hooks(BLOCKS, 400, ["cond", "uncond"]))

    kept = planned()
    for number, given in enumerate((first, second)):
        unet(**given, hooks=kept.hooks(BLOCKS, 500, [(number, "cond"), (number, "uncond")]))
    for number, given in enumerate((first, second)):
        turned = {**given, **later, "text": given["text"].flip(0), "image": given["image"].flip(0)}
        made = unet(**turned, hooks=kept.hooks(BLOCKS, 400, [(number, "uncond"), (number, "cond")]))
        assert torch.allclose(made.flip(0), alone(given), atol=1e-5)
        single = {**later, "timesteps": given["timesteps"], "text": given["text"][:1], "image": given["image"][:1]}
        made = unet(**single, hooks=kept.hooks(BLOCKS, 400, [(number, "cond")]))
        assert torch.allclose(made, alone(given)[:1], atol=1e-5)


@pytest.mark.parametrize(
    "case", ["unknown key", "unknown level", "other size", "more noise again", "has rested", "same key twice"]
)
def test_in_doubt_all_of_the_network_runs(unet, case: str) -> None:
    kept, given = planned(), inputs(1)
    unet(**given, hooks=kept.hooks(BLOCKS, 500, ["a"]))
    keys, level, other = ["a"], 400, {**given, "x": inputs(2)["x"]}
    if case == "unknown key":
        keys = ["b"]
    elif case == "unknown level":
        level = 450
    elif case == "other size":
        other["x"] = torch.randn(1, 8, 2, 8, 16)
    elif case == "more noise again":
        unet(**given, hooks=kept.hooks(BLOCKS, 200, ["a"]))
    elif case == "has rested":
        unet(**given, hooks=kept.hooks(BLOCKS, 300, ["b"]))
        level = 200
    else:
        keys, other = ["a", "a"], {**inputs(2, 2), "x": other["x"]}
    assert torch.equal(unet(**other, hooks=kept.hooks(BLOCKS, level, keys)), unet(**other))


def test_a_patch_that_writes_into_the_stream_does_not_reach_what_is_kept(unet) -> None:
    kept, given = planned(), inputs(1)
    spoil = Hooks(blocks={"output 4": BlockHooks(before=(lambda h, skip, where: (h.mul_(0), skip),))})
    unet(**given, hooks=kept.hooks(BLOCKS, 500, ["a"]).then(spoil))
    assert kept.streams["a"].abs().max() > 0
    unet(**given, hooks=kept.hooks(BLOCKS, 400, ["a"]).then(spoil))
    assert kept.streams["a"].abs().max() > 0


class Count:
    """Passes of the network, and those of them that are whole."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows, self.whole = [], 0
        forward = VideoUNet.forward
        middle = AttentionHooks(output=(self._see,))

        def counted(unet, x, timesteps, text, *given, hooks, **named):
            self.rows.append(len(text))
            seen = Hooks(attentions={"middle spatial 0 attn1": middle})
            return forward(unet, x, timesteps, text, *given, hooks=seen.then(hooks), **named)

        monkeypatch.setattr(VideoUNet, "forward", counted)

    def _see(self, out, where):
        self.whole += 1
        return out


@pytest.mark.parametrize(
    "speed, rows, whole",
    [
        (None, [2] * 8, 8),
        ("exact", [2] * 8, 8),
        ("steps 0.5", [2] * 4, 4),
        ("inner 2", [2] * 8, 6),
        ("steps 0.5, inner 2", [2] * 4, 3),
        ("steps 0.3, inner 3", [2] * 3, 1),
    ],
)
def test_the_pipeline_evaluates_exactly_as_often_as_it_is_told(
    model_of: Callable[[str], Path], monkeypatch, speed: str | None, rows: list[int], whole: int
) -> None:
    count = Count(monkeypatch)
    Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", steps=8, speed=speed)
    assert (count.rows, count.whole) == (rows, whole)


def test_exact_is_the_same_bit_for_bit_and_fast_is_near(model_of: Callable[[str], Path]) -> None:
    pipeline = Pipeline(model_of(ANIMATE))

    def made(**options) -> torch.Tensor:
        return pipeline.animate(picture(), "a cat", steps=6, frames=4, seed=2, **options).latents

    plain = made()
    assert torch.equal(made(speed="exact"), plain)
    assert torch.equal(made(speed="steps 1, inner 1"), plain)
    fast = made(speed="fast")
    assert not torch.equal(fast, plain)
    assert torch.equal(made(speed="fast"), fast)  # nothing of the clips before is left
    assert torch.equal(made(), plain)


def test_windows_keep_streams_of_their_own(model_of: Callable[[str], Path], monkeypatch) -> None:
    made: list[KeptInner] = []
    init = KeptInner.__init__
    monkeypatch.setattr(KeptInner, "__init__", lambda kept, plan: (made.append(kept), init(kept, plan))[1])
    Pipeline(model_of(ANIMATE)).animate(picture(), "a", steps=4, frames=6, window=4, overlap=2, speed="inner 2")
    assert len(made) == 2
    assert all(len(kept.streams) == 2 for kept in made)
    first, second = (next(iter(kept.streams.values())) for kept in made)
    assert not torch.equal(first, second)


def test_the_settings_say_what_was_reused(model_of: Callable[[str], Path]) -> None:
    clip = Pipeline(model_of(ANIMATE)).animate(picture(), "a", steps=2, speed="steps 0.5, inner 3")
    assert clip.settings["speed"] == {"steps": 0.5, "inner": 3}


def test_a_distilled_model_reuses_nothing(tmp_path: Path) -> None:
    pipeline = Pipeline(micro_checkpoint(tmp_path / "turbo.safetensors", "t2v_turbo_vc2"))
    with pytest.raises(InputError, match="speed is 'fast', but t2v_turbo_vc2 is distilled"):
        pipeline.generate("a", speed="fast")
    assert reuse.OUTER == 2
    pipeline.generate("a", steps=1, speed="exact")
