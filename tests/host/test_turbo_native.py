"""A distilled MODEL under the host's own nodes: samplers, patches, windows, saving. It takes its guidance scale along."""

from pathlib import Path

import pytest
import torch

V2 = "t2v_turbo_v2_mg"


@pytest.fixture
def made(load, scene):
    return scene(load(V2), frames=4)


@pytest.fixture
def watched():
    """A clone of a MODEL, and for each of its passes: timestep, branches, guidance scale and motion scale."""

    def watch(model):
        passes = []

        def note(apply, given):
            c = given["c"]
            t = int(model.get_model_object("model_sampling").timestep(given["timestep"][:1]))
            scales = (c["dynamicrafter_guidance"], c["dynamicrafter_motion_scale"])
            passes.append((t, given["cond_or_uncond"], *scales))
            return apply(given["input"], given["timestep"], **c)

        clone = model.clone()
        clone.set_model_unet_function_wrapper(note)
        return clone, passes

    return watch


@pytest.mark.parametrize(
    ("scheduler", "timesteps"),
    [("sgm_uniform", [999, 749, 500, 250]), ("simple", [999, 749, 499, 249])],
)
def test_a_plain_ksampler_gives_the_models_own_scales_at_timesteps_near_its_own(
    scheduler, timesteps, made, sample, watched
) -> None:
    """DynamiCrafter Schedule has 999, 759, 519 and 279."""
    model, passes = watched(made.model)
    out = sample(made, "KSampler", model=model, steps=4, cfg=1.0, sampler_name="lcm", scheduler=scheduler)
    assert out.shape == (4, 4, 8, 8) and out.isfinite().all()
    assert passes == [(t, [0], 7.5, 0.05) for t in timesteps]


def test_a_cfg_above_one_in_a_plain_ksampler_is_a_second_pass(made, sample, watched) -> None:
    model, passes = watched(made.model)
    sample(made, "KSampler", model=model, steps=1, cfg=2.0, sampler_name="lcm")
    assert [(sorted(branches), w) for _, branches, w, _ in passes] == [([0, 1], 7.5)]


def test_a_patch_that_asks_for_the_negative_prompt_runs_it_with_the_same_scales(
    load, scene, sample, run, extras, watched
) -> None:
    extras("nodes_sag")
    made = scene(load(V2), frames=2, width=128, height=128)
    model, passes = watched(made.model)
    (model,) = run("SelfAttentionGuidance", model=model, scale=2.0, blur_sigma=2.0)
    sample(made, model=model, steps=2, cfg_text=5.0, motion_scale=0.2)
    branches = [number for _, numbers, *_ in passes for number in numbers]
    assert set(branches) == {0, 1}
    assert {(w, motion) for _, _, w, motion in passes} == {(5.0, 0.2)}


@pytest.mark.slow
def test_context_windows_cover_a_longer_clip(load, scene, sample, run, extras, watched) -> None:
    extras("nodes_context_windows")
    longer = scene(load(V2), frames=10)
    windows = {"context_length": 4, "context_overlap": 2, "context_schedule": "standard_static", "context_stride": 1}
    windows |= {"closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": False}
    model, passes = watched(longer.model)
    (model,) = run("ContextWindowsManual", model=model, **windows)
    out = sample(longer, model=model, steps=2, cfg_text=5.0)
    assert out.shape[0] == 10 and out.isfinite().all()
    assert len(passes) >= 2 * 4 and {w for *_, w, _ in passes} == {5.0}


def test_a_saved_model_is_found_again(made, sample, run, extras) -> None:
    extras("nodes_model_merging")
    import comfy_extras.nodes_model_merging as merging
    import folder_paths

    merging.ModelSave().save(made.model, "saved_turbo")
    (written,) = Path(folder_paths.get_output_directory()).glob("saved_turbo*")
    written.rename(Path(folder_paths.get_folder_paths("checkpoints")[0], "saved_turbo.safetensors"))
    folder_paths.filename_list_cache.clear()
    given = {"unet": "saved_turbo.safetensors", "projector": "in the same file", "weight_dtype": "default"}
    (again,) = run("DynamiCrafterLoadParts", variant="auto", **given)
    assert again.model.family.name == V2
    asked = {"steps": 2, "cfg_text": -1.0}
    torch.testing.assert_close(sample(made, model=again, **asked), sample(made, **asked))


@pytest.mark.parametrize("dtype", ["bf16", "fp8_e4m3fn"])
def test_weight_dtypes_keep_the_video_close(dtype, made, load, sample) -> None:
    asked = {"steps": 2, "cfg_text": -1.0}
    exact = sample(made, **asked)
    out = sample(made, model=load(V2, weight_dtype=dtype).model, **asked)
    assert torch.nn.functional.cosine_similarity(out.flatten(), exact.flatten(), dim=0) > 0.98
    assert not torch.equal(out, exact)


def test_the_first_release_is_a_lora_without_names_and_is_refused(run, server) -> None:
    import folder_paths

    torch.save([torch.zeros(4, 8)], Path(folder_paths.get_folder_paths("checkpoints")[0], "unet_lora.pt"))
    folder_paths.filename_list_cache.clear()
    with pytest.raises(ValueError, match="T2V-Turbo's LoRA"):
        run("DynamiCrafterLoad", checkpoint="unet_lora.pt", variant="auto", weight_dtype="default")
