"""T2V-Turbo in the host: few steps of one pass, exact to the core; and what other samplers of the host make of the model."""

import pytest
import torch

VARIANTS = ["t2v_turbo_vc2", "t2v_turbo_v2_mg"]
SCALE = 0.18215


@pytest.fixture(params=VARIANTS)
def made(request, load, scene):
    return scene(load(request.param), frames=4)


@pytest.fixture
def v2(load, scene):
    return scene(load("t2v_turbo_v2_mg"), frames=4)


@pytest.fixture
def in_pieces(run, extras):
    """SamplerCustomAdvanced on DynamiCrafterSchedule's sigmas, with any SAMPLER."""
    extras("nodes_custom_sampler")

    def sample(made, sampler, steps: int = 4, seed: int = 1, model=None) -> torch.Tensor:
        model = model or made.model
        conds = {"model": model, "positive": made.positive, "negative": made.negative}
        (guider,) = run("DynamiCrafterGuider", **conds, cfg_text=-1.0, cfg_image=-1.0, guidance_rescale=-1.0)
        (sigmas,) = run("DynamiCrafterSchedule", model=model, steps=steps, spacing="auto", denoise=1.0)
        (noise,) = run("RandomNoise", noise_seed=seed)
        given = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": made.latent}
        return run("SamplerCustomAdvanced", **given)[0]["samples"]

    return sample


def by_the_core(ours, tiny_file, made, noise_of, steps: int, w: float, motion: float | None) -> torch.Tensor:
    """The library's own consistency sampling, with the fresh noise of the host's sampler: the next seed's."""
    import folder_paths

    family = made.model.model.family
    path = folder_paths.get_full_path("checkpoints", tiny_file(family.name))
    unet = ours("dynamicrafter_core.checkpoints.checkpoint").load_checkpoint(path).load("unet")
    text, generator = made.positive[0][0], torch.Generator().manual_seed(2)

    def predict(x, t, guidance, motion_scale):
        return unet(x, t, text, fs=torch.tensor([family.fs_default]), guidance=guidance, motion_scale=motion_scale)

    def noise(k, shape):
        return torch.randn(4, 4, 8, 8, generator=generator).transpose(0, 1)[None]

    core = ours("dynamicrafter_core.diffusion.consistency")
    with torch.inference_mode():
        out = core.sample_consistency(
            predict, noise_of(made), family.schedule(), steps, w, motion, family.motion_share, noise
        )
    return out[0].transpose(0, 1)


@pytest.mark.parametrize("steps", [1, 2, 4, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (8, 16))])
def test_the_sampler_node_is_exact_to_the_library(steps, made, sample, ours, tiny_file, noise_of) -> None:
    motion = made.model.model.family.motion_scale
    expected = by_the_core(ours, tiny_file, made, noise_of, steps, 6.0, motion)
    out = sample(made, steps=steps, cfg_text=6.0, cfg_image=-1.0) * SCALE
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1


def test_the_models_own_figures_are_four_steps_and_seven_and_a_half(made, sample, ours, tiny_file, noise_of) -> None:
    motion = made.model.model.family.motion_scale
    expected = by_the_core(ours, tiny_file, made, noise_of, 4, 7.5, motion)
    out = sample(made, steps=0, cfg_text=-1.0, cfg_image=-1.0) * SCALE
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_one_pass_a_step_sees_the_prompt_alone(made, sample) -> None:
    seen = []

    def count(apply, given):
        seen.append((given["cond_or_uncond"], given["input"].shape[0]))
        return apply(given["input"], given["timestep"], **given["c"])

    model = made.model.clone()
    model.set_model_unet_function_wrapper(count)
    sample(made, model=model, steps=4, cfg_text=-1.0)
    assert seen == 4 * [([0], 4)]


def test_guidance_and_motion_reach_the_network(v2, sample) -> None:
    plain = sample(v2, steps=2, cfg_text=-1.0)
    assert (sample(v2, steps=2, cfg_text=2.0) - plain).abs().max() > 1e-3
    moved = sample(v2, steps=2, cfg_text=-1.0, motion_scale=0.5)
    assert (moved - plain).abs().max() > 1e-3
    assert torch.equal(sample(v2, steps=2, cfg_text=-1.0, motion_scale=0.05), plain)


def test_motion_counts_in_the_first_half_of_the_timesteps(v2, sample) -> None:
    """The last two of four steps, at timesteps 519 and 279: the first of them still counts, the second does not."""
    given = {"steps": 4, "cfg_text": -1.0}
    assert not torch.equal(sample(v2, denoise=0.5, motion_scale=2.0, **given), sample(v2, denoise=0.5, **given))
    assert torch.equal(sample(v2, denoise=0.25, motion_scale=2.0, **given), sample(v2, denoise=0.25, **given))


def test_the_pieces_make_the_same_video_as_the_node(made, sample, run, in_pieces) -> None:
    (sampler,) = run("DynamiCrafterDDIM", eta=1.0)
    torch.testing.assert_close(in_pieces(made, sampler), sample(made, steps=4, cfg_text=-1.0, seed=1))


@pytest.mark.parametrize("steps", [1, 4, pytest.param(16, marks=pytest.mark.slow)])
def test_the_hosts_lcm_is_the_same_on_these_sigmas(steps, made, run, in_pieces) -> None:
    """On a CPU, where its fresh noise is ours too. It leaves c_skip out, which is 3e-7 at the lowest of these timesteps, 99."""
    (ours,), (lcm,) = run("DynamiCrafterDDIM", eta=1.0), run("KSamplerSelect", sampler_name="lcm")
    torch.testing.assert_close(in_pieces(made, lcm, steps), in_pieces(made, ours, steps), atol=1e-4, rtol=1e-4)


def test_a_mask_keeps_the_given_latent(made, sample) -> None:
    kept = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(4, 64, 64)
    mask[:, :, 32:] = 1
    out = sample(made, latent={**made.latent, "samples": kept}, mask=mask, steps=4, cfg_text=-1.0)
    torch.testing.assert_close(out[..., :4], kept[..., :4], atol=1e-5, rtol=1e-5)
    assert (out[..., 4:] - kept[..., 4:]).abs().mean() > 0.1


def test_a_patch_of_the_host_changes_the_video(load, scene, sample, run, extras) -> None:
    extras("nodes_pag")
    made = scene(
        load("t2v_turbo_vc2"), frames=2, width=128, height=128
    )  # the middle block then sees more than one pixel
    (model,) = run("PerturbedAttentionGuidance", model=made.model, scale=3.0)
    assert (sample(made, model=model, steps=2, cfg_text=-1.0) - sample(made, steps=2, cfg_text=-1.0)).abs().max() > 1e-3


def test_a_bare_unet_runs_with_videocrafter2s_text_tower_and_autoencoder(load, scene, sample, run, tiny_file) -> None:
    bare = tiny_file("t2v_turbo_vc2", folder="diffusion_models", name="unet_no_mg.pt", parts=("unet",), container="raw")
    given = {"projector": "in the same file", "variant": "auto", "weight_dtype": "default"}
    (model,) = run("DynamiCrafterLoadParts", unet=bare, **given)
    loaded = load("videocrafter2_t2v_512")
    made = scene(type(loaded)(**{**vars(loaded), "model": model}), frames=4)
    latent = {"samples": sample(made, steps=4, cfg_text=-1.0)}
    assert model.model.family.name == "t2v_turbo_vc2"
    assert run("DynamiCrafterDecode", vae=made.vae, latent=latent)[0].shape == (4, 64, 64, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"guidance_rescale": 0.5}, "guidance_rescale is 0.5.*distilled.*set it to 0 or -1"),
        ({"spacing": "uniform"}, "timestep spacing is uniform.*distilled.*auto"),
        ({"start_step": 940}, "start step is 940.*distilled"),
        ({"steps": 51}, "steps is 51; give a whole number from 1 to 50"),
    ],
)
def test_what_a_distilled_model_has_no_use_for_is_refused(given, message, v2, sample) -> None:
    with pytest.raises(ValueError, match=message):
        sample(v2, **{"steps": 4, "cfg_text": -1.0, **given})


def test_motion_guidance_is_refused_where_there_is_none(load, scene, sample) -> None:
    with pytest.raises(ValueError, match="motion guidance is 0.1.*has none: set it to -1, or load T2V-Turbo-v2"):
        sample(scene(load("t2v_turbo_vc2"), frames=2), motion_scale=0.1)
    with pytest.raises(ValueError, match="motion guidance is 0.1.*has none"):
        sample(scene(load(), frames=2), motion_scale=0.1)
