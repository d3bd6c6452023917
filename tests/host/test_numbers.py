"""What the host computes is what the core computes: on the same weights, the same noise, in every variant."""

import copy

import pytest
import torch

from dynamicrafter_core.families import FAMILIES
from dynamicrafter_core.training.recipe import read_recipe

EMBEDDED = read_recipe("embedded").figures
SCALE = 0.18215


@pytest.mark.parametrize("strength", [1.0, 1.5])
def test_sampler_node_equals_the_cores_ddim(strength, load, scene, sample, ours, tiny_file) -> None:
    """Dual guidance, rescale, eta, the image's weight and dynamic rescale at once, by the core's own modules.

    The scales are low because random weights amplify rounding: at 7.5 and 3 a change of 1e-6 in the noise grows to 3e-4.
    """
    import comfy.sample
    import folder_paths

    core, guidance = ours("dynamicrafter_core.diffusion.sampling"), ours("dynamicrafter_core.diffusion.guidance")
    path = folder_paths.get_full_path("checkpoints", tiny_file())
    checkpoint = ours("dynamicrafter_core.checkpoints.checkpoint").load_checkpoint(path)
    unet = checkpoint.load("unet")
    made = scene(load(), frames=16, strength=strength)
    seed, steps = 5, 4

    (text, options), (no_text, negative) = made.positive[0], made.negative[0]
    image, no_image = options["dynamicrafter_image"], negative["dynamicrafter_image"]
    concat = options["dynamicrafter_concat"].transpose(1, 2) * SCALE
    branches = {"cond": (text, image), "uncond": (no_text, no_image), "image_only": (no_text, image)}

    def predict(x, t, names):
        parts = [torch.cat(values) for values in zip(*(branches[name] for name in names), strict=True)]
        given = (torch.cat([x, concat], 1), t, *parts, torch.tensor([24]))
        return unet(*given, image_strength=strength).chunk(len(names))

    generator = torch.Generator().manual_seed(seed + 1)

    def noise(k, shape):
        return torch.randn(16, 4, 8, 8, generator=generator).transpose(0, 1)[None]

    start = comfy.sample.prepare_noise(made.latent["samples"], seed).transpose(0, 1)[None]
    with torch.inference_mode():
        expected = core.sample_ddim(
            guidance.guided(predict, guidance.Guidance(2.5, 1.5, 0.7)),
            start,
            checkpoint.family.schedule(),
            steps,
            "uniform_trailing",
            eta=1.0,
            noise=noise,
        )
    actual = sample(made, seed=seed, steps=steps, cfg_text=2.5, cfg_image=1.5) * SCALE
    torch.testing.assert_close(actual, expected[0].transpose(0, 1), atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1


@pytest.mark.parametrize("variant", [name for name, family in FAMILIES.items() if not family.consistency])
def test_euler_equals_ddim_without_noise_on_every_variant(variant, load, scene, sample, ours) -> None:
    """So every sampler of the host runs on the right schedule. The host's last step ends at the x0 that DDIM aims at."""
    loaded = load(variant)
    family = loaded.model.model.family
    made = scene(loaded, frames=2, mode="loop" if "loop" in family.modes else "animate")
    last = []

    def keep(args):
        last.append(args["denoised"])
        return args["denoised"]

    model = loaded.model.clone()
    model.set_model_sampler_post_cfg_function(keep)
    options = {"steps": 5, "cfg_text": 2.0, "cfg_image": 2.0, "eta": 0.0, "guidance_rescale": 0.0}
    sample(made, model=model, spacing="uniform_trailing", **options)
    euler = sample(made, "KSampler", steps=5, cfg=2.0) * SCALE
    # A terminal SNR of zero is a very small one in the host, whose sigmas must be finite: 2e-4 of the first step's x0.
    tolerance = 1e-3 if family.zero_snr else 1e-4
    torch.testing.assert_close(euler, last[-1], atol=tolerance, rtol=1e-4)
    assert euler.isfinite().all() and euler.std() > 0.05


def test_hosts_dual_guider_equals_ours_without_rescale(load, scene, sample, run, extras) -> None:
    extras("nodes_custom_sampler")
    made = scene(load(), frames=2)
    middle = [[made.negative[0][0], made.positive[0][1]]]
    common = {
        "noise": run("RandomNoise", noise_seed=3)[0],
        "sampler": run("KSamplerSelect", sampler_name="dpmpp_2m")[0],
        "sigmas": run("DynamiCrafterSchedule", model=made.model, steps=4, spacing="auto", denoise=1.0)[0],
        "latent_image": made.latent,
    }
    conds = {"model": made.model, "positive": made.positive, "negative": made.negative}
    (ours_guider,) = run("DynamiCrafterGuider", **conds, cfg_text=7.5, cfg_image=3.0, guidance_rescale=0.0)
    (theirs,) = run(
        "DualCFGGuider",
        model=made.model,
        cond1=made.positive,
        cond2=middle,
        negative=made.negative,
        cfg_conds=7.5,
        cfg_cond2_negative=3.0,
        style="regular",
    )
    with_ours = run("SamplerCustomAdvanced", guider=ours_guider, **common)[0]["samples"]
    with_theirs = run("SamplerCustomAdvanced", guider=theirs, **common)[0]["samples"]
    torch.testing.assert_close(with_ours, with_theirs, atol=2e-4, rtol=1e-4)


def test_three_branches_in_one_batch_equal_three_passes(load, scene, sample, monkeypatch) -> None:
    loaded = load()
    made = scene(loaded)
    batches = []

    def count(apply, given):
        batches.append(len(given["cond_or_uncond"]))
        return apply(given["input"], given["timestep"], **given["c"])

    model = loaded.model.clone()
    model.set_model_unet_function_wrapper(count)
    together = sample(made, model=model, steps=2, cfg_text=2.5, cfg_image=1.5)
    assert batches == [3, 3]
    monkeypatch.setattr(type(model), "get_free_memory", lambda self, device: 0)
    batches.clear()
    apart = sample(made, model=model, steps=2, cfg_text=2.5, cfg_image=1.5)
    assert batches == [1] * 6
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)


def test_branches_share_what_comes_before_the_text(load, scene, sample, ours) -> None:
    """The first convolution sees each latent once, however many branches there are."""
    loaded = load()
    rows = []
    first = loaded.model.model.diffusion_model.input_blocks[0][0]
    hook = first.register_forward_hook(lambda module, given, out: rows.append(given[0].shape[0]))
    try:
        sample(scene(loaded), steps=1)
    finally:
        hook.remove()
    assert rows == [4]


@pytest.mark.parametrize(
    ("by_text", "by_image", "passes"), [(7.5, 7.5, 2), (1.0, 1.0, 1), (7.5, 1.0, 2), (7.5, 3.0, 3)]
)
def test_a_branch_that_vanishes_is_not_run(by_text, by_image, passes, load, scene, sample) -> None:
    loaded = load()
    ran = []
    model = loaded.model.clone()

    def count(apply, given):
        ran.extend(given["cond_or_uncond"])
        return apply(given["input"], given["timestep"], **given["c"])

    model.set_model_unet_function_wrapper(count)
    sample(scene(loaded), model=model, steps=1, cfg_text=by_text, cfg_image=by_image)
    assert len(ran) == passes


@pytest.mark.parametrize(
    ("variant", "steps", "cfg"),
    [
        ("dynamicrafter_256", 50, 7.5),
        ("videocrafter2_t2v_512", 50, 12.0),
        ("embedded", EMBEDDED["steps"], EMBEDDED["cfg"]),
    ],
)
def test_what_is_not_asked_for_is_the_models_own(variant, steps, cfg, load, scene, sample) -> None:
    made = scene(load(variant), frames=2)
    own = sample(made, steps=0, cfg_text=-1.0, cfg_image=-1.0)
    torch.testing.assert_close(sample(made, steps=steps, cfg_text=cfg, cfg_image=cfg), own)
    assert not torch.allclose(sample(made, steps=steps, cfg_text=cfg + 1, cfg_image=-1.0), own)


def test_equal_scales_are_single_guidance(load, scene, sample) -> None:
    made = scene(load())
    options = {"steps": 3, "eta": 0.0, "guidance_rescale": 0.0}
    ours = sample(made, cfg_text=5.0, cfg_image=5.0, **options)
    other = sample(made, cfg_text=5.0, cfg_image=5.0 + 1e-6, **options)  # three branches, nearly the same sum
    torch.testing.assert_close(ours, other, atol=1e-3, rtol=1e-3)


def test_several_clips_in_a_batch_are_what_each_is_alone(load, scene, sample, image) -> None:
    loaded = load()
    pictures = image(count=2)
    options = {"steps": 2, "eta": 0.0, "cfg_text": 2.5, "cfg_image": 1.5}
    made = scene(loaded, images=pictures)
    assert made.latent["samples"].shape[0] == 8
    both = sample(made, **options)
    first = scene(loaded, images=pictures[:1])
    torch.testing.assert_close(sample(first, **options), both[:4], atol=1e-4, rtol=1e-3)
    second = scene(loaded, images=pictures[1:])
    second.latent = copy.copy(second.latent) | {"batch_index": [4, 5, 6, 7]}  # the noise it has in the batch
    torch.testing.assert_close(sample(second, **options), both[4:], atol=1e-4, rtol=1e-3)


def test_pieces_are_the_sampler(load, scene, sample, run, extras) -> None:
    extras("nodes_custom_sampler")
    made = scene(load())
    conds = {"model": made.model, "positive": made.positive, "negative": made.negative}
    (guider,) = run("DynamiCrafterGuider", **conds, cfg_text=7.5, cfg_image=3.0, guidance_rescale=-1.0)
    out = run(
        "SamplerCustomAdvanced",
        noise=run("RandomNoise", noise_seed=1)[0],
        guider=guider,
        sampler=run("DynamiCrafterDDIM", eta=1.0)[0],
        sigmas=run("DynamiCrafterSchedule", model=made.model, steps=3, spacing="auto", denoise=1.0)[0],
        latent_image=made.latent,
    )
    torch.testing.assert_close(out[0]["samples"], sample(made))


def test_split_sigmas_continue_where_they_stopped(load, scene, sample, run, extras) -> None:
    """Without noise, two runs over the halves of a schedule are one run over the whole."""
    extras("nodes_custom_sampler")
    made = scene(load())
    conds = {"model": made.model, "positive": made.positive, "negative": made.negative}
    (guider,) = run("DynamiCrafterGuider", **conds, cfg_text=5.0, cfg_image=5.0, guidance_rescale=0.0)
    (sigmas,) = run("DynamiCrafterSchedule", model=made.model, steps=4, spacing="auto", denoise=1.0)
    (ddim,) = run("DynamiCrafterDDIM", eta=0.0)
    common = {"guider": guider, "sampler": ddim}
    (noise,), (none,) = run("RandomNoise", noise_seed=1), run("DisableNoise")
    whole = run("SamplerCustomAdvanced", noise=noise, sigmas=sigmas, latent_image=made.latent, **common)[0]
    half = run("SamplerCustomAdvanced", noise=noise, sigmas=sigmas[:3], latent_image=made.latent, **common)[0]
    rest = run("SamplerCustomAdvanced", noise=none, sigmas=sigmas[2:], latent_image=half, **common)[0]
    torch.testing.assert_close(rest["samples"], whole["samples"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("spacing", ["uniform", "uniform_trailing"])
@pytest.mark.parametrize("variant", ["dynamicrafter_512", "dynamicrafter_256", "videocrafter1_t2v_1024"])
def test_every_number_of_steps_gives_falling_finite_sigmas(spacing, variant, load, run) -> None:
    model = load(variant).model
    for steps in (*range(1, 130), 250, 333, 501, 999, 1000):
        (sigmas,) = run("DynamiCrafterSchedule", model=model, steps=steps, spacing=spacing, denoise=1.0)
        assert sigmas.isfinite().all() and sigmas[-1] == 0
        assert (sigmas.diff() < 0).all(), steps
        assert len(sigmas) > steps or spacing == "uniform_trailing" and len(sigmas) == steps + 1


def test_sigmas_are_the_timesteps_of_the_core(load, run, ours) -> None:
    sampling = load().model.get_model_object("model_sampling")
    wanted = ours("dynamicrafter_core.diffusion.schedule").ddim_timesteps(50, "uniform_trailing")
    (sigmas,) = run("DynamiCrafterSchedule", model=load().model, steps=50, spacing="auto", denoise=1.0)
    assert sampling.timestep(sigmas[:-1]).tolist() == wanted[::-1]
