"""The measures of benchmarks.speed, on cases whose answer is known."""

from importlib import import_module
from typing import Any

import pytest
import repository
import torch

from dynamicrafter_core.diffusion.guidance import Guidance
from dynamicrafter_core.diffusion.reuse import PRESETS, ReusePlan, Speed
from dynamicrafter_core.diffusion.sampling import executed_timesteps
from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.models.transformers import Attention
from dynamicrafter_core.models.unet_config import UNetConfig
from dynamicrafter_core.training import generate

DOCUMENT = repository.ROOT / "docs" / "speed.md"
SCHEDULE = NoiseSchedule("v", zero_snr=True, base_scale=0.7)


def module(name: str) -> Any:
    """Fixture of a module, no longer on the path than in a test: the host has a module `nodes` of its own."""

    @pytest.fixture(name=name.strip("_"))
    def imported(monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.syspath_prepend(str(repository.ROOT))
        return import_module(f"benchmarks.speed.{name}")

    return imported


clips, tried, work, main = map(module, ("clips", "tried", "work", "__main__"))


def test_work_saved_is_counted(work) -> None:
    assert work.saved(PRESETS["exact"], 15, 0.5) == (15, 15, 1.0)
    assert work.saved(Speed(0.4), 15, 0.5) == (6, 6, 2.5)
    assert work.saved(Speed(0.4, 2), 15, 0.5) == (6, 4, 3.0)
    assert work.saved(Speed(0.4, 2), 15, 0.0) == (6, 4, 3.75)


def test_the_outer_share_is_that_of_what_runs(work) -> None:
    """Doubling what happens inside lowers it; a network that is nearly all outside has nearly all of it."""
    meta = torch.device("meta")

    def share(**figures: Any) -> float:
        config = UNetConfig(model_channels=32, head_channels=8, context_dim=12, res_blocks=1, **figures)
        given = (
            torch.randn(1, 8, 2, 8, 8, device=meta),
            torch.full((1,), 500, device=meta),
            torch.randn(1, 5, 12, device=meta),
            torch.randn(1, 2, 4, 12, device=meta),
            torch.full((1,), 10, device=meta),
        )
        return work.outer_share(config, given)

    shallow, deep = share(channel_mult=(1, 1)), share(channel_mult=(1, 4, 4))
    assert 0 < deep < shallow < 1


def test_keys_and_values_of_the_text_are_a_small_share(work) -> None:
    assert 0 < work.text_share("512") < 0.01


def test_dpm_goes_to_the_clip_that_the_network_always_sees(tried) -> None:
    clip, noise = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 4, 2, 4, 4)
    for steps in (1, 2, 6):
        made = tried.dpm_2m(lambda x, t: SCHEDULE.output(clip, x, t), noise, SCHEDULE, steps, "uniform_trailing")
        torch.testing.assert_close(made, clip, rtol=1e-4, atol=1e-4)


def test_dpm_is_nearer_to_the_known_way_than_ddim(tried) -> None:
    """On data that are Gaussian the way from noise is known."""
    schedule, spread = NoiseSchedule("eps"), 0.5
    noise = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)

    def variance(t: int) -> float:
        ac = schedule.alphas_cumprod[t].item()
        return ac * spread**2 + 1 - ac

    def clean(x: torch.Tensor, t: int) -> torch.Tensor:
        return x * schedule.alphas_cumprod[t].item() ** 0.5 * spread**2 / variance(t)

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return schedule.output(clean(x, int(t[0])), x, t)

    def ddim(steps: int) -> torch.Tensor:
        timesteps, x = executed_timesteps(steps, "uniform_trailing")[::-1], noise
        for t, following in zip(timesteps, timesteps[1:], strict=False):
            eps = predict(x, torch.tensor([t]))
            x = schedule.q_sample(clean(x, t), following, eps)
        return clean(x, timesteps[-1])

    for steps in (5, 10):
        last = 1000 // steps - 1
        exact = clean(noise * (variance(last) / variance(999)) ** 0.5, last)
        made = tried.dpm_2m(predict, noise, schedule, steps, "uniform_trailing")
        assert float((made - exact).abs()) < 0.5 * float((ddim(steps) - exact).abs())


def test_the_unconditional_branch_runs_every_nth_time(tried) -> None:
    asked: list[tuple[str, ...]] = []

    def run(x: torch.Tensor, t: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        asked.append(names)
        return [{"cond": x + 1, "uncond": x}[name] for name in names]

    with tried.unconditional_every(3):
        predict = generate.guided(run, Guidance(2.0), SCHEDULE)
    x, t = torch.zeros(1, 4, 1, 2, 2), torch.tensor([500])
    made = [predict(x, t) for _ in range(4)]
    both = ("cond", "uncond")
    assert asked == [both, ("cond",), ("cond",), both]
    assert all(torch.equal(each, torch.full_like(x, 2.0)) for each in made)


def test_attention_is_kept_for_so_many_steps(tried) -> None:
    layer = Attention(8, 8, 1, 8, make={}, operations=torch.nn, attention=lambda q, k, v, heads, options: v)
    signals = type("Signals", (), {"hooks": type("Hooks", (), {"attentions": {}})(), "options": {}})()
    given = [torch.randn(1, 3, 8) for _ in range(4)]
    plain = [layer(x, signals) for x in given]
    with tried.attention_every(spatial=2):
        made = [layer(x, signals) for x in given]
    assert [torch.equal(made[k], plain[k - k % 2]) for k in range(4)] == [True] * 4
    with tried.attention_every(temporal=2):
        assert all(torch.equal(layer(x, signals), out) for x, out in zip(given, plain, strict=True))


def test_a_given_plan_stands_in_for_the_presets(tried) -> None:
    with tried.planned([0, 3], [0]):
        plan = generate.ReusePlan.of(Speed(), [4.0, 3.0, 2.0, 1.0])
        assert (plan.runs, plan.whole) == ((0, 3), (0,))
    assert ReusePlan.of(Speed(), [2.0, 1.0]).runs == (0, 1)


def test_scores_compare_with_the_full_run(clips) -> None:
    exact = clips.Made(torch.zeros(1, 3, 16, 32, 32), 2.0)
    off = clips.Made(exact.clips + 0.2, 0.5)
    saved, error, *_ = clips.scores(off, exact, exact.clips[:, :, 0])
    assert (saved, error) == ("4.00 x", "20.0 (20.0)")
    assert clips.scores(exact, exact, exact.clips[:, :, 0])[:2] == ["1.00 x", ""]


def test_tables_go_between_their_marks(tmp_path, monkeypatch, main) -> None:
    document = tmp_path / "speed.md"
    document.write_text("a\n<!-- full -->\nold\n<!-- end of full -->\n<!-- tried -->\n<!-- end of tried -->\nz\n")
    monkeypatch.setattr(main, "DOCUMENT", document)
    main.write("full", "new \\1\n")
    main.write("tried", "more\n")
    assert document.read_text() == (
        "a\n<!-- full -->\nnew \\1\n<!-- end of full -->\n<!-- tried -->\nmore\n<!-- end of tried -->\nz\n"
    )


@pytest.mark.parametrize("table", ["presets", "full", "tried"])
def test_the_document_holds_every_table(table: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8").split(f"<!-- {table} -->\n")[1]
    assert text.split(f"<!-- end of {table} -->")[0].count("\n| ") >= 3
