"""Reuse between steps, set on a MODEL: the core's numbers, exact counts, and nothing left from another run, branch, window or call."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

SCALE = 0.18215


@pytest.fixture
def speed(run: Callable) -> Callable[..., Any]:
    return lambda model, preset="balanced": run("DynamiCrafterSpeed", model=model, speed=preset)[0]


@pytest.fixture
def set_parts(ours) -> Callable[..., Any]:
    """The same with intervals in place of a preset."""
    reuse, host = ours("dynamicrafter_core.diffusion.reuse"), ours("nodes.host.speed")
    return lambda model, text: host.set_speed(model, reuse.Speed.read(text))


@pytest.fixture
def count(load, ours) -> Any:
    """Hangs a counter on a UNet: rows of each pass, and whether its middle ran."""
    made: list = []

    def watch(model: Any) -> list[tuple[int, bool]]:
        passes: list[tuple[int, bool]] = []
        unet = model.model.diffusion_model

        def before(module: Any, args: Any, kwargs: Any) -> None:
            passes.append((len(kwargs["transformer_options"]["cond_or_uncond"]), False))

        def middle(*_: Any) -> None:
            passes[-1] = (passes[-1][0], True)

        made.append(unet.register_forward_pre_hook(before, with_kwargs=True))
        made.append(unet.middle_block.register_forward_hook(middle))
        return passes

    yield watch
    for handle in made:
        handle.remove()


def test_exact_changes_not_a_bit_and_the_given_model_stays_as_it_is(load, scene, sample, speed) -> None:
    made = scene(load())
    plain = sample(made, steps=4)
    assert torch.equal(sample(made, model=speed(made.model, "exact"), steps=4), plain)
    fast = sample(made, model=speed(made.model, "fast"), steps=4)
    assert fast.isfinite().all() and not torch.equal(fast, plain)
    assert torch.equal(sample(made, steps=4), plain)
    again = speed(speed(made.model, "fast"), "exact")  # the last node counts
    assert torch.equal(sample(made, model=again, steps=4), plain)


@pytest.mark.parametrize(
    "text, passes",
    [
        ("steps 0.5", [(2, True)] * 4),
        ("inner 2", [(2, True)] * 5 + [(2, False), (2, True), (2, False)]),
        ("steps 0.5, inner 2", [(2, True)] * 3 + [(2, False)]),
    ],
)
def test_the_network_runs_exactly_as_often_as_it_is_told(load, scene, sample, set_parts, count, text, passes) -> None:
    made = scene(load())
    counted = count(made.model)
    sample(made, model=set_parts(made.model, text), steps=8, cfg_image=-1.0)
    assert counted == passes


def test_it_is_the_cores_clip(load, scene, sample, set_parts, ours, tiny_file) -> None:
    """The same weights, noise and intervals in the core's own sampler."""
    import comfy.sample
    import folder_paths

    core = "dynamicrafter_core"
    reuse, guiding, sampling = (ours(f"{core}.diffusion.{name}") for name in ("reuse", "guidance", "sampling"))
    checkpoint = ours(f"{core}.checkpoints.checkpoint").load_checkpoint(
        folder_paths.get_full_path("checkpoints", tiny_file())
    )
    unet, schedule = checkpoint.load("unet"), checkpoint.family.schedule()
    made = scene(load(), frames=16)
    (said, seen), (unsaid, unseen) = made.positive[0], made.negative[0]
    concat = seen["dynamicrafter_concat"].transpose(1, 2) * SCALE
    known = {"cond": (said, seen["dynamicrafter_image"]), "uncond": (unsaid, unseen["dynamicrafter_image"])}
    timesteps = sampling.executed_timesteps(6, "uniform_trailing")[::-1]
    plan = reuse.ReusePlan.of(reuse.Speed(0.7, 2), timesteps)
    kept = reuse.KeptInner(plan)

    def run(x: torch.Tensor, t: torch.Tensor, names: tuple[str, ...]) -> Any:
        parts = [torch.cat(values) for values in zip(*(known[name] for name in names), strict=True)]
        hooks = kept.hooks(len(unet.input_blocks), t[0].item(), names)
        return unet(torch.cat([x, concat], 1), t, *parts, torch.tensor([24]), hooks=hooks).chunk(len(names))

    generator, frames = torch.Generator().manual_seed(8), made.latent["samples"].shape[0]
    with torch.inference_mode():
        theirs = sampling.sample_ddim(
            reuse.keep_clip(guiding.guided(run, guiding.Guidance(4.0), schedule), schedule, plan),
            comfy.sample.prepare_noise(made.latent["samples"], 7).transpose(0, 1)[None],
            schedule,
            6,
            "uniform_trailing",
            eta=1.0,
            noise=lambda k, shape: torch.randn(frames, 4, 8, 8, generator=generator).transpose(0, 1)[None],
        )[0].transpose(0, 1)
    asked = {"seed": 7, "steps": 6, "cfg_text": 4.0, "cfg_image": -1.0, "guidance_rescale": 0.0, "eta": 1.0}
    model = set_parts(made.model, "steps 0.7, inner 2")
    result = sample(made, model=model, spacing="uniform_trailing", **asked)
    torch.testing.assert_close(result * SCALE, theirs, rtol=1e-3, atol=1e-3)


def test_the_sampler_says_what_runs(load, scene, speed, ours) -> None:
    settings, made = ours("nodes.host.sampler_settings"), scene(load())

    def said(preset: str) -> str:
        model = speed(made.model, preset)
        guider = settings.make_guider(model, made.positive, made.negative, 7.5, -1, 0)
        return settings.describe(model, guider, settings.make_sigmas(model, 50, "auto", 1.0, 0), 0, "none")

    runs = "the network runs in 20 of the steps, in 6 of them only its outer blocks"
    assert said("exact") == "50 steps, 2 passes each\nguidance 7.5, rescale 0"
    assert said("balanced") == f"{said('exact')}\n{runs}"


def test_nothing_is_left_of_a_run(load, scene, sample, speed, ours, monkeypatch) -> None:
    hooks = ours("nodes.host.reuse_hooks")
    runs: list = []
    init = hooks.RunReuse.__init__
    monkeypatch.setattr(
        hooks.RunReuse, "__init__", lambda run, *given: (runs.append(weakref.ref(run)), init(run, *given))[1]
    )
    made, other = scene(load()), scene(load(), prompt="a dog")
    model = speed(made.model)
    first = sample(made, model=model, steps=4)
    sample(other, model=model, steps=4)
    assert torch.equal(sample(made, model=model, steps=4), first)
    gc.collect()
    assert len(runs) == 3 and all(run() is None for run in runs)
    assert "dynamicrafter_reuse" not in model.model_options["transformer_options"]


def test_branches_one_by_one_reuse_what_they_would_together(load, scene, sample, set_parts, monkeypatch) -> None:
    """As where the memory holds one branch at a time."""
    made = scene(load())
    model = set_parts(made.model, "inner 2")
    together = sample(made, model=model, steps=4)
    kind = type(made.model.model)
    monkeypatch.setattr(
        kind, "memory_required", lambda self, shape, **named: 2**60 if shape[0] > len(made.latent["samples"]) else 0
    )
    torch.testing.assert_close(sample(made, model=model, steps=4), together, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "lcm", "dpmpp_2m", "heun", "uni_pc", "dpm_2"])
def test_with_the_hosts_samplers(load, scene, run, speed, count, sampler) -> None:
    """Where a sampler compares steps, all of them run; the counts go by noise level, also where it looks ahead."""
    made = scene(load())
    counted = count(made.model)
    asked: dict[str, Any] = {
        "positive": made.positive,
        "negative": made.negative,
        "latent_image": made.latent,
        "seed": 1,
    }
    asked |= {"steps": 8, "cfg": 3.0, "sampler_name": sampler, "scheduler": "normal", "denoise": 1.0}
    out = run("KSampler", model=speed(made.model), **asked)[0]["samples"]
    assert out.isfinite().all()
    whole = [ran for _, ran in counted]
    if sampler in ("euler", "euler_ancestral", "lcm"):
        assert whole == [True] * 3 + [False]
    elif sampler == "dpmpp_2m":
        assert whole == [True] * 5 + [False, True, False]
    else:
        assert 8 <= len(whole) <= 16 and not all(whole) and whole[0]


def test_a_sampler_that_looks_ahead_is_as_near_as_one_that_does_not(load, scene, run, set_parts) -> None:
    made = scene(load("embedded"))
    asked: dict[str, Any] = {
        "positive": made.positive,
        "negative": made.negative,
        "latent_image": made.latent,
        "seed": 1,
    }
    asked |= {"steps": 12, "cfg": 3.0, "scheduler": "normal", "denoise": 1.0}

    def off(sampler: str) -> float:
        plain, fast = (
            run("KSampler", model=model, sampler_name=sampler, **asked)[0]["samples"]
            for model in (made.model, set_parts(made.model, "inner 2"))
        )
        return float((plain - fast).std() / plain.std())

    assert 0 < off("heun") < 4 * off("euler")


@pytest.mark.parametrize("other", ["HyperTile", "FreeU_V2", "PerturbedAttentionGuidance", "SelfAttentionGuidance"])
def test_it_works_beside_the_hosts_patches(extras, run, load, scene, sample, set_parts, other) -> None:
    """And is as near what they make without it as without them: a branch that runs twice a step keeps a stream for each."""
    files = {"HyperTile": "nodes_hypertile", "FreeU_V2": "nodes_freelunch", "SelfAttentionGuidance": "nodes_sag"}
    extras(files.get(other, "nodes_pag"))
    given: dict[str, dict[str, Any]] = {
        "HyperTile": {"tile_size": 64, "swap_size": 1, "max_depth": 0, "scale_depth": False},
        "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
        "PerturbedAttentionGuidance": {"scale": 3.0},
        "SelfAttentionGuidance": {"scale": 0.5, "blur_sigma": 2.0},
    }
    made = scene(load("embedded"))
    patched = run(other, model=made.model, **given[other])[0]

    def off(model: Any) -> float:
        plain, reused = (sample(made, model=each, steps=6) for each in (model, set_parts(model, "inner 2")))
        return float((plain - reused).std() / plain.std())

    assert 0 < off(patched) < 2 * off(made.model)


def test_windows_have_streams_of_their_own(load, scene, run, sample, set_parts, ours, monkeypatch) -> None:
    hooks = ours("nodes.host.reuse_hooks")
    runs: list = []
    init = hooks.RunReuse.__init__
    monkeypatch.setattr(hooks.RunReuse, "__init__", lambda made, *given: (runs.append(made), init(made, *given))[1])
    made = scene(load("embedded"), frames=8)
    asked: dict[str, Any] = {"window": 4, "overlap": 2, "fuse": "pyramid", "closed_loop": False, "stride": 1}
    windowed = run("DynamiCrafterWindows", model=made.model, freenoise=False, **asked)[0]

    def off(model: Any) -> float:
        plain, reused = (sample(made, model=each, steps=4) for each in (model, set_parts(model, "inner 2")))
        return float((plain - reused).std() / plain.std())

    assert 0 < off(windowed) < 2 * off(made.model)
    assert len(runs[0].inner.streams) == 3 * 3  # windows, branches


def test_a_distilled_model_is_refused_and_left_alone_by_exact(load, speed) -> None:
    model = load("t2v_turbo_vc2").model
    with pytest.raises(Exception, match="is distilled: each of its few steps changes a lot"):
        speed(model, "fast")
    assert speed(model, "exact") is not model


def test_another_model_is_refused(speed, load) -> None:
    with pytest.raises(Exception, match="DynamiCrafterSpeed"):
        speed(load().clip.patcher)
