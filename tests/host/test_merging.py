"""DynamiCrafterMergeParts: what the library writes into a file, done to MODELs, and saved by the host."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def first(load):
    return load()


@pytest.fixture(scope="module")
def second(run, tiny_file):
    inputs = {"projector": "in the same file", "variant": "dynamicrafter_512", "weight_dtype": "default"}
    return run("DynamiCrafterLoadParts", unet=tiny_file(name="second.safetensors", seed=1), **inputs)[0]


@pytest.fixture(scope="module")
def image_model(server, first):
    """The host's own Stable Diffusion 2 UNet, of the tiny model's widths."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    figures = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 64,
        "use_temporal_attention": False,
        "legacy": False,
        "dtype": torch.float32,
    }
    config = comfy.supported_models.SD20(figures)
    config.unet_config["num_head_channels"] = 16
    torch.manual_seed(2)
    model = comfy.model_base.BaseModel(config)
    with torch.no_grad():
        for weight in model.diffusion_model.parameters():
            weight.copy_(torch.randn(weight.shape) / weight[0].numel() ** 0.5)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def merged_by_the_library(ours, tiny_file, run, **shares):
    import folder_paths

    paths = [folder_paths.get_full_path("checkpoints", name) for name in (tiny_file(), "second.safetensors")]
    target = Path(paths[0]).with_name("merged.safetensors")
    ours("dynamicrafter_core.checkpoints.merging").merge(*paths, target, **shares, dtype="fp32", overwrite=True)
    folder_paths.filename_list_cache.clear()
    inputs = {"projector": "in the same file", "variant": "dynamicrafter_512", "weight_dtype": "default"}
    return run("DynamiCrafterLoadParts", unet=target.name, **inputs)[0]


def with_context_of(model, run, first, image):
    """The prompts with the image as the projector of `model` reads it."""
    (prompt,) = run("CLIPTextEncode", clip=first.clip, text="a cat walks")
    values = {"model": model, "clip_vision": first.vision, "image": image(), "positive": prompt, "negative": prompt}
    return run("DynamiCrafterImageContext", **values, strength=1.0)[0][0][1]["dynamicrafter_image"]


def weights(model) -> dict[str, torch.Tensor]:
    """As they are while it samples."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model], force_patch_weights=True)
    state = {key: value.clone() for key, value in model.model.diffusion_model.state_dict().items()}
    model.detach()
    return state


SHARES = {"spatial": 0.25, "temporal": 0.75, "projector": 0.5}


def test_node_and_library_make_the_same_model(first, second, run, ours, tiny_file, scene, sample, image) -> None:
    (merged,) = run("DynamiCrafterMergeParts", first=first.model, second=second, **SHARES)
    same = merged_by_the_library(ours, tiny_file, run, **SHARES)
    torch.testing.assert_close(weights(merged), weights(same))
    made = scene(first)
    assert (sample(made, "KSampler", model=merged, steps=2) - sample(made, "KSampler", steps=2)).abs().max() > 0.1
    contexts = [with_context_of(model, run, first, image) for model in (merged, same, first.model)]
    torch.testing.assert_close(contexts[0], contexts[1])
    assert not torch.allclose(contexts[0], contexts[2])


def test_the_merged_model_is_saved_and_loads_again(first, second, run, extras, image) -> None:
    extras("nodes_model_merging")
    import comfy_extras.nodes_model_merging as merging
    import folder_paths

    (merged,) = run("DynamiCrafterMergeParts", first=first.model, second=second, **SHARES)
    before = weights(merged)
    merging.ModelSave().save(merged, "merged_parts")
    (written,) = Path(folder_paths.get_output_directory()).glob("merged_parts*")
    written.rename(Path(folder_paths.get_folder_paths("checkpoints")[0], "merged_parts.safetensors"))
    folder_paths.filename_list_cache.clear()
    inputs = {"projector": "in the same file", "variant": "dynamicrafter_512", "weight_dtype": "default"}
    (again,) = run("DynamiCrafterLoadParts", unet="merged_parts.safetensors", **inputs)
    torch.testing.assert_close(weights(again), before)
    contexts = [with_context_of(model, run, first, image) for model in (merged, again)]
    torch.testing.assert_close(*contexts)


def test_the_first_model_stays_as_it_was(first, second, run, scene, sample, image) -> None:
    made = scene(first)
    before = sample(made, "KSampler", steps=2), with_context_of(first.model, run, first, image)
    run("DynamiCrafterMergeParts", first=first.model, second=second, **SHARES)
    after = sample(made, "KSampler", steps=2), with_context_of(first.model, run, first, image)
    assert all(map(torch.equal, before, after))


def test_the_hosts_image_model_gives_all_its_686_weights(first, image_model, run, scene, sample) -> None:
    (merged,) = run("DynamiCrafterMergeParts", first=first.model, second=image_model, spatial=1.0)
    assert len(merged.patches) == 686
    assert len(image_model.model.diffusion_model.state_dict()) == 686
    made = scene(first)
    assert (sample(made, "KSampler", model=merged, steps=2) - sample(made, "KSampler", steps=2)).abs().max() > 0.1
    conv = "input_blocks.0.0.weight"
    own, given = (model.model.diffusion_model.state_dict()[conv] for model in (first.model, image_model))
    mixed = weights(merged)[conv]
    torch.testing.assert_close(mixed[:, :4], given)
    assert torch.equal(mixed[:, 4:], own[:, 4:])


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "all 0, which keeps the first model"),
        ({"temporal": 0.5}, "is a SD20 without temporal layers: set temporal to 0"),
        ({"projector": 0.5}, "needs a MODEL of this pack"),
    ],
)
def test_wrong_merges_are_refused_in_a_sentence(first, image_model, run, shares, message) -> None:
    with pytest.raises(ValueError, match=message):
        run("DynamiCrafterMergeParts", first=first.model, second=image_model, **shares)


def test_a_text_model_has_no_projector_to_give(first, load, run) -> None:
    with pytest.raises(ValueError, match="second MODEL has no image projector: set projector to 0"):
        run("DynamiCrafterMergeParts", first=first.model, second=load("videocrafter2_t2v_512").model, projector=0.5)
