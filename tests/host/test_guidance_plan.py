"""Guidance that changes over a run, set on a MODEL: the core's numbers, fewer passes, and no sampler that ignores it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

SCALE = 0.18215
OFF: dict[str, Any] = {"text": "", "image": "", "start": 0.0, "end": 1.0, "parallel": 1.0, "norm": 0.0, "momentum": 0.0}


@pytest.fixture
def guidance(run: Callable) -> Callable[..., Any]:
    return lambda model, **given: run("DynamiCrafterGuidance", model=model, **{**OFF, **given})[0]


@pytest.fixture
def branches(load: Callable) -> Callable[[Any], list[int]]:
    """Hangs a counter on a MODEL: how many branches each pass of the network holds."""

    def watch(model: Any) -> list[int]:
        counted: list[int] = []

        def count(apply: Callable, given: dict) -> torch.Tensor:
            counted.append(len(given["cond_or_uncond"]))
            return apply(given["input"], given["timestep"], **given["c"])

        model.set_model_unet_function_wrapper(count)
        return counted

    return watch


@pytest.fixture
def by_the_core_guided(load, scene, ours, tiny_file) -> Callable[..., torch.Tensor]:
    """A clip by the core's own modules, with a plan in the core's words."""
    import comfy.sample
    import folder_paths

    core, names = "dynamicrafter_core.diffusion", ("curves", "guidance", "guidance_plan", "sampling")
    curves, guiding, plans, sampling = (ours(f"{core}.{name}") for name in names)
    path = folder_paths.get_full_path("checkpoints", tiny_file())
    checkpoint = ours("dynamicrafter_core.checkpoints.checkpoint").load_checkpoint(path)
    unet, schedule = checkpoint.load("unet"), checkpoint.family.schedule()

    def make(
        made: Any, text: object, image: object, limits: str, rescale: float, seed: int, steps: int
    ) -> torch.Tensor:
        (said, options), (unsaid, negative) = made.positive[0], made.negative[0]
        seen, unseen = options["dynamicrafter_image"], negative["dynamicrafter_image"]
        concat = options["dynamicrafter_concat"].transpose(1, 2) * SCALE
        known = {"cond": (said, seen), "uncond": (unsaid, unseen), "image_only": (unsaid, seen)}

        def predict(x: torch.Tensor, t: torch.Tensor, names: tuple[str, ...]) -> Any:
            parts = [torch.cat(values) for values in zip(*(known[name] for name in names), strict=True)]
            return unet(torch.cat([x, concat], 1), t, *parts, torch.tensor([24])).chunk(len(names))

        generator = torch.Generator().manual_seed(seed + 1)
        frames = made.latent["samples"].shape[0]
        plan = plans.GuidancePlan(
            curves.Curve.read("text", text, 0, 100),
            curves.Curve.read("image", image, 0, 100),
            rescale,
            plans.Limits.read(limits),
        )
        with torch.inference_mode():
            out = sampling.sample_ddim(
                guiding.guided(predict, plan, schedule),
                comfy.sample.prepare_noise(made.latent["samples"], seed).transpose(0, 1)[None],
                schedule,
                steps,
                "uniform_trailing",
                eta=1.0,
                noise=lambda k, shape: torch.randn(frames, 4, 8, 8, generator=generator).transpose(0, 1)[None],
            )
        return out[0].transpose(0, 1)

    return make


def test_switched_off_nothing_changes(load, scene, sample, guidance) -> None:
    made = scene(load())
    assert torch.equal(sample(made, model=guidance(made.model)), sample(made))


def test_a_number_is_the_samplers_own_scale(load, scene, sample, guidance) -> None:
    made = scene(load())
    by_node = sample(made, model=guidance(made.model, text="2.5", image="1.5"), cfg_text=9.0, cfg_image=9.0)
    assert torch.equal(by_node, sample(made, cfg_text=2.5, cfg_image=1.5))


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({"text": "0: 3, 0.5: 2.5, 1: 1"}, ""),
        ({"text": "0: 2.5, 1: 1", "image": "0.3: 1.5, 0.6: 2"}, ""),
        ({"start": 0.2, "end": 0.6}, "from 0.2, to 0.6"),
        ({"text": "0: 1, 1: 3", "end": 0.6}, "to 0.6"),
        ({"parallel": 0.0}, "parallel 0"),
        ({"parallel": 0.5, "norm": 0.1, "momentum": -0.5, "end": 0.8}, "parallel 0.5, norm 0.1, momentum -0.5, to 0.8"),
    ],
    ids=str,
)
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_the_host_makes_the_cores_clip(
    load, scene, sample, guidance, by_the_core_guided, given, limits, rescale
) -> None:
    """The scales are low because random weights amplify rounding."""
    made = scene(load(), frames=16)
    text, image = given.get("text", 2.5), given.get("image", 1.5)
    expected = by_the_core_guided(made, text, image, limits, rescale, seed=5, steps=4)
    options = {"seed": 5, "steps": 4, "cfg_text": 2.5, "cfg_image": 1.5, "guidance_rescale": rescale}
    actual = sample(made, model=guidance(made.model, **given), **options) * SCALE
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    plain = sample(made, **options) * SCALE
    assert (actual - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ({}, [3, 3, 3, 3]),
        ({"start": 0.3, "end": 0.6}, [1, 1, 3, 1]),
        ({"text": "0: 7.5, 0.6: 1", "image": "0: 7.5, 0.6: 1"}, [2, 2, 2, 1]),
    ],
)
def test_passes_are_left_out(load, scene, sample, guidance, branches, given, counts) -> None:
    made = scene(load())
    model = guidance(made.model, **given)
    counted = branches(model)
    sample(made, model=model, steps=4)
    assert counted == counts


def test_the_node_in_pieces_counts_too(load, scene, sample, run, extras, guidance) -> None:
    extras("nodes_custom_sampler")
    made = scene(load())
    model = guidance(made.model, text="0: 3, 1: 1", end=0.5)
    conds = {"model": model, "positive": made.positive, "negative": made.negative}
    (guider,) = run("DynamiCrafterGuider", **conds, cfg_text=7.5, cfg_image=3.0, guidance_rescale=-1.0)
    out = run(
        "SamplerCustomAdvanced",
        noise=run("RandomNoise", noise_seed=1)[0],
        guider=guider,
        sampler=run("DynamiCrafterDDIM", eta=1.0)[0],
        sigmas=run("DynamiCrafterSchedule", model=model, steps=3, spacing="auto", denoise=1.0)[0],
        latent_image=made.latent,
    )
    torch.testing.assert_close(out[0]["samples"], sample(made, model=model))


def test_what_the_sampler_says_counts_the_passes(load, scene, guidance, ours) -> None:
    settings = ours("nodes.host.sampler_settings")
    made = scene(load())

    def said(**given: Any) -> str:
        model = guidance(made.model, **given)
        guider = settings.make_guider(model, made.positive, made.negative, 7.5, 3.0, 0.0)
        return settings.describe(model, guider, settings.make_sigmas(model, 4, "auto", 1.0, 0), 0, "none")

    assert said() == "4 steps, 3 passes each\nguidance 7.5 by text and 3 by image, rescale 0"
    assert said(text="0: 9, 1: 2", start=0.3, end=0.6) == (
        "4 steps, 6 passes in all\nguidance 0: 9, 1: 2 by text and 3 by image, rescale 0\nguided from 0.3 to 0.6 of the run"
    )


def test_of_two_nodes_the_last_counts(load, scene, sample, guidance) -> None:
    made = scene(load())
    twice = guidance(guidance(made.model, text="9", end=0.2), text="2.5")
    assert torch.equal(sample(made, model=twice), sample(made, cfg_text=2.5))


def test_a_sampler_that_would_ignore_it_is_refused(load, scene, sample, guidance) -> None:
    made = scene(load())
    with pytest.raises(Exception, match=r"this sampler guides by itself \(CFGGuider\): use DynamiCrafterSampler"):
        sample(made, "KSampler", model=guidance(made.model, end=0.5))


@pytest.mark.parametrize("other", ["RescaleCFG", "CFGZeroStar", "APG", "PerturbedAttentionGuidance", "HyperTile"])
def test_it_works_beside_the_hosts_guidance(extras, run, load, scene, sample, guidance, branches, other) -> None:
    module, given = {
        "RescaleCFG": ("nodes_model_advanced", {"multiplier": 0.7}),
        "CFGZeroStar": ("nodes_cfg", {}),
        "APG": ("nodes_apg", {"eta": 0.5, "norm_threshold": 5.0, "momentum": -0.5}),
        "PerturbedAttentionGuidance": ("nodes_pag", {"scale": 3.0}),
        "HyperTile": ("nodes_hypertile", {"tile_size": 32, "swap_size": 2, "max_depth": 1, "scale_depth": False}),
    }[other]
    extras(module)
    made = scene(load())
    (patched,) = run(other, model=made.model, **given)
    model = guidance(patched, text="0: 3, 1: 2", end=0.6)
    counted = branches(model)
    out = sample(made, model=model, steps=3, guidance_rescale=0.0)
    assert out.isfinite().all() and out.std() > 0
    needed = [1, 1] if other == "PerturbedAttentionGuidance" else [1]  # which runs the prompt once more
    assert counted[-len(needed) :] == needed


def test_momentum_does_not_outlive_its_run(load, scene, sample, guidance) -> None:
    made = scene(load())
    model = guidance(made.model, momentum=-0.5, parallel=0.2)
    assert torch.equal(sample(made, model=model), sample(made, model=model))


def test_several_clips_are_projected_each_by_itself(load, scene, sample, guidance, image) -> None:
    loaded, pictures = load(), image(count=2)
    options = {"steps": 2, "eta": 0.0, "cfg_text": 2.5, "cfg_image": 1.5}
    model = guidance(loaded.model, parallel=0.0, norm=0.2, momentum=-0.5)
    both = sample(scene(loaded, images=pictures), model=model, **options)
    first = sample(scene(loaded, images=pictures[:1]), model=model, **options)
    torch.testing.assert_close(first, both[:4], atol=1e-4, rtol=1e-3)


def test_projection_of_what_another_node_replaces_is_refused(extras, run, load, scene, sample, guidance) -> None:
    extras("nodes_model_advanced")
    made = scene(load())
    (patched,) = run("RescaleCFG", model=made.model, multiplier=0.7)
    with pytest.raises(Exception, match="projects the guidance, and a node on the MODEL .* replaces it: remove"):
        sample(made, model=guidance(patched, parallel=0.0), guidance_rescale=0.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": "fast"}, "text guidance is 'fast'; give a number from 0 to 100, or points"),
        ({"image": "0: 3, 2: 3"}, "a share of the run in image guidance"),
        ({"momentum": 2.0}, "the momentum of guidance is 2.0; give a number from -1 to 1"),
        ({"start": 0.6, "end": 0.5}, "guidance starts at 0.6 and ends at 0.5; the end must come later"),
    ],
)
def test_bad_guidance_is_refused(load, guidance, given, message) -> None:
    with pytest.raises(Exception, match=message):
        guidance(load().model, **given)


def test_models_that_cannot_be_guided_so_are_refused(load, guidance) -> None:
    with pytest.raises(Exception, match="sees no image: leave image guidance empty"):
        guidance(load("videocrafter2_t2v_512").model, image="3")
    with pytest.raises(Exception, match="distilled: guidance is an input of its network"):
        guidance(load("t2v_turbo_vc2").model)
