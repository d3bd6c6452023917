"""Every variant, every way its files come: whole, pruned, split, quantised; and the host's encoders on its weights."""

from pathlib import Path

import pytest
import torch


def test_text_to_video_needs_only_an_empty_latent_of_its_frames(load, scene, sample) -> None:
    loaded = load("videocrafter2_t2v_512")
    assert loaded.vision is None
    made = scene(loaded, frames=16)
    assert sample(made, steps=1).shape == (16, 4, 8, 8)


def test_tooncrafter_decodes_in_sight_of_its_references(load, scene, sample, run, image) -> None:
    loaded = load("tooncrafter_512")
    made = scene(loaded, mode="interpolate", frames=8, end_image=image(seed=4))
    latent = {**made.latent, "samples": sample(made, steps=1)}
    (frames,) = run("DynamiCrafterDecode", vae=loaded.vae, latent=latent)
    assert frames.shape == (8, 64, 64, 3)
    bare = {"samples": latent["samples"]}
    given = torch.cat([image(), image(seed=4)])
    torch.testing.assert_close(run("DynamiCrafterDecode", vae=loaded.vae, latent=bare, references=given)[0], frames)
    (other,) = run("DynamiCrafterDecode", vae=loaded.vae, latent=bare, references=given.flip(0))
    assert not torch.allclose(other, frames)
    assert (
        run("DynamiCrafterDecode", vae=loaded.vae, latent=bare)[0].shape == frames.shape
    )  # by the plain decoder in it
    assert run("VAEDecode", vae=loaded.vae, samples=latent)[0].shape == frames.shape
    with pytest.raises(ValueError, match="references holds 3 images"):
        run("DynamiCrafterDecode", vae=loaded.vae, latent=bare, references=image(count=3))


def test_pruned_and_split_files_make_the_same_model(load, scene, sample, run, tiny_file) -> None:
    loaded = load()
    made = scene(loaded, frames=2)
    expected = sample(made, steps=1)
    options = {"variant": "dynamicrafter_512", "weight_dtype": "default"}
    pruned = tiny_file(name="pruned_512.safetensors", parts=("unet", "projector"))
    unet = tiny_file(name="unet_512.safetensors", folder="diffusion_models", parts=("unet",))
    projector = tiny_file(name="projector_512.safetensors", folder="diffusion_models", parts=("projector",))
    for files in ({"unet": pruned, "projector": "in the same file"}, {"unet": unet, "projector": projector}):
        (model,) = run("DynamiCrafterLoadParts", **files, **options)
        again = scene(type(loaded)(**{**vars(loaded), "model": model}), frames=2)
        torch.testing.assert_close(sample(again, steps=1), expected)
    (bare,) = run("DynamiCrafterLoadParts", unet=unet, projector="in the same file", **options)
    with pytest.raises(ValueError, match="was loaded without an image projector"):
        scene(type(loaded)(**{**vars(loaded), "model": bare}), frames=2)


def test_a_file_without_a_unet_is_refused(run, tiny_file) -> None:
    alone = tiny_file(name="vae_512.safetensors", parts=("autoencoder",))
    with pytest.raises(ValueError, match="variant|UNet"):
        run("DynamiCrafterLoad", checkpoint=alone, variant="auto", weight_dtype="default")


def test_the_hosts_encoders_agree_with_open_clips_on_the_same_weights(tiny_file, ours, run) -> None:
    """In half precision, in which the host keeps encoders; both work in single precision."""
    import folder_paths

    name = tiny_file(name="half_512.safetensors", dtype=torch.float16)
    checkpoint = ours("dynamicrafter_core.checkpoints.checkpoint").load_checkpoint(
        folder_paths.get_full_path("checkpoints", name)
    )
    _, clip, vision, _ = run("DynamiCrafterLoad", checkpoint=name, variant="auto", weight_dtype="default")
    text = checkpoint.load("text", torch.float32)
    for prompt in ("", "a boat on the sea", "very " * 120):
        ((tokens, _),) = run("CLIPTextEncode", clip=clip, text=prompt)[0]
        torch.testing.assert_close(tokens.float(), text.encode(prompt), atol=1e-3, rtol=1e-3)
    tower = checkpoint.load("vision", torch.float32)
    pixels = torch.rand(1, 3, 90, 120, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        seen = ours("nodes.host.image_tokens").encode_images(vision, pixels)
        expected = tower(ours("dynamicrafter_core.models.preprocess").preprocess_for_clip(pixels, 28))
    torch.testing.assert_close(seen[:1], expected, atol=1e-3, rtol=1e-3)


def test_the_hosts_autoencoder_agrees_with_the_cores(load, tiny_file, ours) -> None:
    import folder_paths

    path = folder_paths.get_full_path("checkpoints", tiny_file())
    autoencoder = (
        ours("dynamicrafter_core.checkpoints.checkpoint").load_checkpoint(path).load("autoencoder", torch.float32)
    )
    z = torch.randn(2, 4, 8, 8)
    with torch.inference_mode():
        expected = ((autoencoder.decode(z) + 1) / 2).clamp(0, 1).movedim(1, -1)
        actual = ours("nodes.host.vae").decode(load().vae, z)
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-3)


def test_denoise_keeps_the_latent_it_begins_with(load, scene, sample) -> None:
    made = scene(load(), frames=2)
    given = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 5
    made.latent = {**made.latent, "samples": given}
    options = {"steps": 10, "eta": 0.0, "cfg_text": 1.0, "cfg_image": 1.0}
    little, much = (sample(made, denoise=share, **options) for share in (0.1, 0.9))
    assert (little - given).abs().mean() < (much - given).abs().mean()
    assert torch.equal(sample(made, denoise=0.0, **options), given)


def test_a_mask_keeps_what_is_black(load, scene, sample) -> None:
    made = scene(load(), frames=2)
    given = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 5
    made.latent = {**made.latent, "samples": given}
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    out = sample(made, steps=2, mask=mask)
    torch.testing.assert_close(out[..., :3], given[..., :3], atol=1e-4, rtol=1e-4)
    assert (out[..., 5:] - given[..., 5:]).abs().mean() > 0.1


def test_sizes_are_told_in_the_embedded_models_own_pixels(load, scene, sample) -> None:
    made = scene(load("embedded"))
    made.latent = {"samples": torch.zeros(4, 4, 15, 15)}
    with pytest.raises(ValueError, match="latent of 60x60 pixels .* multiples of 16 pixels"):
        sample(made)


def test_the_embedded_models_parts_are_in_the_host_what_they_are_in_the_core(run, load, ours) -> None:
    loaded = load("embedded")
    core = ours("dynamicrafter_core.checkpoints.checkpoint").load_checkpoint(ours("nodes.host.files").embedded_path())

    ((tokens, _),) = run("CLIPTextEncode", clip=loaded.clip, text="the camera pans left")[0]
    expected = core.load("text", torch.float32).encode("the camera pans left")
    torch.testing.assert_close(tokens.float(), expected, atol=1e-3, rtol=1e-3)

    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        seen = ours("nodes.host.image_tokens").encode_images(loaded.vision, pixels)[:2]
        expected = core.load("vision", torch.float32)(
            ours("dynamicrafter_core.models.preprocess").preprocess_for_clip(pixels, 64)
        )
        torch.testing.assert_close(seen, expected, atol=1e-3, rtol=1e-3)

        autoencoder = core.load("autoencoder", torch.float32)
        z = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
        expected = ((autoencoder.decode(z) + 1) / 2).clamp(0, 1).movedim(1, -1)
        torch.testing.assert_close(ours("nodes.host.vae").decode(loaded.vae, z), expected, atol=2e-3, rtol=2e-3)
        encoded = loaded.vae.encode(((pixels + 1) / 2).movedim(1, -1))
        mean, logvar = autoencoder.encode(pixels)
        assert ((encoded - mean).abs() < 6 * (0.5 * logvar).exp() + 2e-3).all()


def test_files_of_any_container_load(run, tiny_file, load) -> None:
    name = tiny_file(name="dynamicrafter_512_model.ckpt", container="lightning")
    outputs = run("DynamiCrafterLoad", checkpoint=name, variant="auto", weight_dtype="default")
    ours_, theirs = (model.model.diffusion_model.state_dict() for model in (outputs[0], load().model))
    assert all(torch.equal(ours_[key], theirs[key]) for key in theirs)


def test_files_quantised_for_comfyui_load_with_their_scales(run, tiny_file, load, scene, sample) -> None:
    import folder_paths
    from safetensors.torch import load_file, save_file

    source = Path(folder_paths.get_full_path("checkpoints", tiny_file()))
    state = load_file(source)
    for key in [key for key in state if ".attn1.to_" in key and key.endswith("to_q.weight")]:
        scale = state[key].abs().max() / 448
        state[key] = (state[key] / scale).to(torch.float8_e4m3fn)
        state[key.removesuffix("weight") + "scale_weight"] = scale.float()
    state["model.diffusion_model.scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(state, source.with_name("dynamicrafter_512_fp8_scaled.safetensors"))
    folder_paths.filename_list_cache.clear()
    name, options = (
        "dynamicrafter_512_fp8_scaled.safetensors",
        {"variant": "dynamicrafter_512", "weight_dtype": "default"},
    )
    (model,) = run("DynamiCrafterLoadParts", unet=name, projector="in the same file", **options)
    made = scene(load(), frames=2)
    out, exact = (sample(made, "KSampler", model=each, steps=2, cfg=1.0) for each in (model, made.model))
    assert torch.nn.functional.cosine_similarity(out.flatten(), exact.flatten(), dim=0) > 0.99
    assert not torch.equal(out, exact)
