"""Where and with what a run begins: the start step and the initial noise of conditional image leakage (Zhao et al. 2024)."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SCALE = 0.18215
VARIANCE = 0.25


@pytest.fixture
def noise_file(server):
    """A file of initial noise for clips of so many frames, and what is in it."""
    import folder_paths

    def write(frames: int = 16, side: int = 8):
        folder = Path(folder_paths.get_folder_paths("checkpoints")[0])
        folder.mkdir(parents=True, exist_ok=True)
        expectation = torch.randn(1, 4, frames, side, side, generator=torch.Generator().manual_seed(3))
        torch.save({"Expectation_X0": expectation, "Tr_Cov_d": torch.tensor(VARIANCE)}, folder / "initial_noise.pt")
        folder_paths.filename_list_cache.clear()
        return "initial_noise.pt", expectation

    return write


SINGLE = {"steps": 3, "cfg_text": 2.0, "cfg_image": 2.0, "eta": 0.0, "guidance_rescale": 0.0}


@pytest.mark.parametrize(
    ("variant", "asked", "start"),
    [
        ("dynamicrafter_256", 0, 1000),
        ("dynamicrafter_512", 940, 940),
        ("dynamicrafter_512", 0, 1000),
        ("videocrafter1_i2v_512_cil", 0, 940),
    ],
)
@pytest.mark.parametrize("measured", [False, True])
def test_sampler_begins_as_the_core_does(
    variant, asked, start, measured, load, scene, sample, noise_file, by_the_core, noise_of
) -> None:
    made = scene(load(variant), frames=16)
    x, given = noise_of(made), {"start_step": asked}
    if measured:
        given["initial_noise"], expectation = noise_file()
        ac = load(variant).model.model.family.schedule().alphas_cumprod[start - 1].item()
        x = ac**0.5 * expectation + (1 - ac + ac * VARIANCE) ** 0.5 * x
    expected = by_the_core(variant, x, SINGLE["steps"], start)
    actual = sample(made, **SINGLE, **given) * SCALE
    torch.testing.assert_close(actual, expected[0].transpose(0, 1), atol=2e-4, rtol=1e-3)


def test_schedule_leaves_out_what_is_above_the_start_step(load, run) -> None:
    for variant, asked, highest in (("dynamicrafter_512", 940, 939), ("videocrafter1_i2v_512_cil", 0, 937)):
        model = load(variant).model
        given = {"steps": 50, "spacing": "auto", "denoise": 1.0, "start_step": asked}
        (sigmas,) = run("DynamiCrafterSchedule", model=model, **given)
        assert model.get_model_object("model_sampling").timestep(sigmas[0]) == highest


def test_initial_noise_that_does_not_fit_is_refused(load, scene, sample, noise_file) -> None:
    made = scene(load())
    name, _ = noise_file()
    with pytest.raises(
        ValueError, match="measured on 16 frames of 64x64 pixels, and these clips are 4 frames of 64x64"
    ):
        sample(made, initial_noise=name, start_step=940)
    with pytest.raises(ValueError, match="initial noise is initial_noise.pt, .* denoise is 0.5: set denoise to 1"):
        sample(made, initial_noise=name, start_step=940, denoise=0.5)
    mask = torch.ones(1, 8, 8)
    held = SimpleNamespace(**{**vars(made), "latent": {**made.latent, "noise_mask": mask}})
    for masked, given in ((made, {"mask": mask}), (held, {})):
        with pytest.raises(ValueError, match="initial_noise.pt, .* a mask keeps part of one: remove the mask"):
            sample(masked, initial_noise=name, start_step=940, **given)
    with pytest.raises(ValueError, match="holds .*; an Analytic-Init file holds Expectation_X0 and Tr_Cov_d"):
        sample(made, initial_noise="dynamicrafter_512.safetensors", start_step=940)


def test_missing_initial_noise_is_named_with_where_to_get_it(pack) -> None:
    import nodes

    said = nodes.NODE_CLASS_MAPPINGS["DynamiCrafterSampler"].validate_inputs(initial_noise="gone.pt")
    assert "gone.pt is not in models/diffusion_models or models/checkpoints" in said
    assert "GraceZhao/DynamiCrafter-Analytic-Init" in said and "GraceZhao/VideoCrafter-Analytic-Init" in said


def test_node_says_where_the_run_begins_and_what_is_missing(load, scene, ours) -> None:
    options = ours("nodes.host.sampler_settings")
    for variant, step, end in (
        ("dynamicrafter_512", 0, "2 passes each\nguidance 7.5, rescale 0.7"),
        ("dynamicrafter_512", 940, "from step 940 on"),
        ("videocrafter1_i2v_512_cil", 0, "made for the initial noise GraceZhao/VideoCrafter-Analytic-Init"),
    ):
        made = scene(load(variant))
        guider = options.make_guider(made.model, made.positive, made.negative, 7.5, 7.5, -1)
        assert options.describe(made.model, guider, torch.ones(3), step, "none").endswith(end)
    guider = options.make_guider(made.model, made.positive, made.negative, 7.5, 3.0, -1)
    said = options.describe(made.model, guider, torch.ones(3), 1000, "none")
    assert said == "2 steps, 3 passes each\nguidance 7.5 by text and 3 by image, rescale 0"
