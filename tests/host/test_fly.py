"""ViewCrafter in the host: the guide's views beside the noise, tokens for all frames alike, and Camera Path."""

import pytest
import torch

SCALE = 0.18215


@pytest.fixture
def guide(image) -> torch.Tensor:
    return torch.cat([image(seed=seed) for seed in range(20, 24)])


@pytest.mark.parametrize("variant", ["viewcrafter_25", "viewcrafter_25_512", "viewcrafter_16"])
def test_it_samples_from_load_to_video(variant, load, scene, sample, run, guide) -> None:
    loaded = load(variant)
    made = scene(loaded, frames=4, guide_video=guide)
    latent = {**made.latent, "samples": sample(made, steps=2)}
    assert loaded.model.model.family.name == variant
    assert run("DynamiCrafterDecode", vae=loaded.vae, latent=latent)[0].shape == (4, 64, 64, 3)


def test_the_conditioning_is_each_views_own_latent_and_the_images_tokens(load, scene, run, image, guide) -> None:
    """Assembled here with the host's own nodes."""
    loaded = load("viewcrafter_25")
    made = scene(loaded, frames=4, guide_video=guide)
    given = made.positive[0][1]
    views = torch.cat([image(), guide[1:]])
    expected = torch.cat([run("VAEEncode", vae=loaded.vae, pixels=view[None])[0]["samples"] for view in views])
    torch.testing.assert_close(given["dynamicrafter_concat"][0], expected, atol=1e-4, rtol=1e-4)
    assert given["dynamicrafter_image"].shape[:3] == (1, 1, 256)
    seen = []
    hook = loaded.model.model.diffusion_model.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, 4:]))
    model = loaded.model
    run(
        "KSampler",
        model=model,
        positive=made.positive,
        negative=made.negative,
        latent_image=made.latent,
        seed=1,
        steps=1,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
        denoise=1.0,
    )
    hook.remove()
    torch.testing.assert_close(seen[0][:4], expected * SCALE, atol=1e-4, rtol=1e-4)


def test_host_and_library_give_the_same_conditions(load, scene, ours, tiny_file, guide, image) -> None:
    """But for the posterior's noise: the host encodes to its mode, as its VAE Encode does."""
    import folder_paths

    made = scene(load("viewcrafter_25"), frames=4, guide_video=guide)
    path = folder_paths.get_full_path("checkpoints", tiny_file("viewcrafter_25"))
    coder = ours("dynamicrafter_core.checkpoints.checkpoint").load_checkpoint(path).load("autoencoder")
    pixels = 2 * torch.cat([image(), guide[1:]]).movedim(-1, 1) - 1
    with torch.inference_mode():
        mean, _ = coder.encode(pixels)
    torch.testing.assert_close(made.positive[0][1]["dynamicrafter_concat"][0], mean, atol=1e-3, rtol=1e-3)


def test_camera_path_draws_what_the_library_draws(run, image, ours) -> None:
    depth = image(seed=9)
    given = {"amount": 1.0, "frames": 3, "easing": "linear", "field_of_view": 55.0, "lines": "1: yaw 12, z 0.2"}
    views, unknown = run("DynamiCrafterCameraPath", image=image(), motion="the lines below", **given, depth_map=depth)
    path, warp = (ours(f"dynamicrafter_core.camera.{name}") for name in ("path", "warp"))
    distance = warp.depth_from_map(depth[0].mean(-1))
    expected, known = warp.render_views(
        2 * image()[0].movedim(-1, 0) - 1, path.camera_path(given["lines"], 3, "linear"), distance
    )
    torch.testing.assert_close(views, (expected.movedim(1, -1) + 1) / 2)
    assert torch.equal(unknown, (~known).float())
    assert torch.equal(views[0], image()[0]) and not unknown[0].any() and unknown[2].any()
    assert (views[unknown.bool()] == 0).all()


def test_the_guide_moves_the_video_and_without_one_nothing_changes(load, scene, sample, guide) -> None:
    loaded = load()
    plain = sample(scene(loaded, frames=4), steps=1)
    assert torch.equal(sample(scene(loaded, frames=4, guide_video=None), steps=1), plain)
    assert (sample(scene(loaded, frames=4, guide_video=guide), steps=1) - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frames": 5}, "guide_video holds 4 frames for a clip of 5: give both the same number"),
        ({"frames": 4, "mode": "loop"}, "A guide video leads one image in mode animate, and mode is loop"),
    ],
)
def test_a_guide_that_does_not_fit_is_refused(given, message, load, scene, guide) -> None:
    with pytest.raises(ValueError, match=message):
        scene(load(), guide_video=guide, **given)


def test_a_guide_leads_one_image(load, scene, guide, image) -> None:
    with pytest.raises(ValueError, match="image holds 2 images"):
        scene(load(), images=image(count=2), frames=4, guide_video=guide)


def test_camera_path_refuses_in_a_sentence(run, image) -> None:
    given = {"amount": 1.0, "frames": 3, "easing": "linear", "field_of_view": 55.0}
    with pytest.raises(ValueError, match="image holds 2 images, and the camera flies through one"):
        run("DynamiCrafterCameraPath", image=image(count=2), motion="still", lines="", **given)
    with pytest.raises(ValueError, match="depth_map holds 2 maps"):
        run("DynamiCrafterCameraPath", image=image(), motion="still", lines="", **given, depth_map=image(count=2))
    with pytest.raises(ValueError, match="lines of the camera path are empty"):
        run("DynamiCrafterCameraPath", image=image(), motion="the lines below", lines=" ", **given)
    with pytest.raises(ValueError, match="line 1 of the camera path"):
        run("DynamiCrafterCameraPath", image=image(), motion="the lines below", lines="1: up 3", **given)
