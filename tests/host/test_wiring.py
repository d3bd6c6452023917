"""Modes and sizes of the conditioning nodes, and every wrong wiring refused in a sentence a person can act on."""

import pytest
import torch


@pytest.fixture(scope="module")
def loaded(load):
    return load()


@pytest.fixture(scope="module")
def made(loaded, scene):
    return scene(loaded, frames=4)


@pytest.fixture
def guide(run, loaded, made, image):
    """DynamiCrafterVisualGuidance with our defaults; gives its three outputs."""

    def call(**inputs):
        given = {"positive": made.positive, "negative": made.negative, "vae": loaded.vae, "image": image()}
        given |= {"mode": "animate", "width": 64, "height": 64, "frames": 4, "fs": 0, "fit": "crop", **inputs}
        return run("DynamiCrafterVisualGuidance", **given)

    return call


def concat_of(conditioning) -> torch.Tensor:
    return conditioning[0][1]["dynamicrafter_concat"]


def test_animate_shows_the_image_to_every_frame(guide) -> None:
    positive, negative, latent = guide()
    concat = concat_of(positive)
    assert concat.shape == (1, 4, 4, 8, 8) and latent["samples"].shape == (4, 4, 8, 8)
    assert torch.equal(concat[:, :1].expand_as(concat), concat) and concat.abs().sum() > 0
    assert torch.equal(concat_of(negative), concat)  # in every branch
    assert not latent["samples"].any()


def test_interpolate_shows_both_ends_and_nothing_between(guide, image) -> None:
    concat = concat_of(guide(mode="interpolate", end_image=image(seed=9))[0])[0]
    alone = concat_of(guide(image=image(seed=9))[0])[0]
    assert torch.equal(concat[-1], alone[0]) and not torch.equal(concat[0], concat[-1])
    assert not concat[1:-1].any() and concat[0].any()


def test_loop_shows_the_image_at_both_ends_and_drops_the_last_frame(guide, run, loaded) -> None:
    positive, _, latent = guide(mode="loop")
    concat = concat_of(positive)[0]
    assert torch.equal(concat[0], concat[-1]) and not concat[1:-1].any()
    assert len(run("DynamiCrafterDecode", vae=loaded.vae, latent=latent)[0]) == 3
    assert len(run("VAEDecode", vae=loaded.vae, samples=latent)[0]) == 4


def test_keyframes_stand_where_they_are_put(guide, image) -> None:
    inputs = {"mode": "loop", "keyframes": image(count=2, seed=5), "keyframe_positions": "1, -2"}
    concat = concat_of(guide(**inputs)[0])[0]
    assert all(frame.any() for frame in concat)
    assert not torch.equal(concat[1], concat[2])


@pytest.mark.parametrize(
    ("height", "width", "size"), [(90, 160, (512, 320)), (160, 90, (320, 512)), (50, 50, (512, 320))]
)
def test_size_zero_is_the_models_own_turned_as_the_image_is(height, width, size, guide, image) -> None:
    latent = guide(width=0, height=0, image=image(height, width), frames=1)[2]["samples"]
    assert (8 * latent.shape[3], 8 * latent.shape[2]) == size


def test_sizes_are_rounded_and_the_value_is_told(guide, ours, made, loaded, image) -> None:
    assert guide(width=100, height=70)[2]["samples"].shape == (4, 4, 8, 16)
    guidance = ours("nodes.host.visual_guidance")
    plan = guidance.Plan("interpolate", 100, 70, 4, 99, "crop")
    with torch.inference_mode():
        told = guidance.add_detail(plan, made.positive, made.negative, loaded.vae, image(), image()).notes
    assert told == [
        "4 frames, 128x64",
        "fs 99: fps (usual: 15 to 30); smaller moves more",
        "DynamiCrafter 512 was trained to animate, not to interpolate: the result may be poor",
    ]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_an_image_of_another_shape_fits_as_asked(fit, guide, image) -> None:
    wide = image(64, 192)
    concat = concat_of(guide(image=wide, fit=fit)[0])
    assert concat.shape[-2:] == (8, 8) and concat.isfinite().all()


def test_pad_crop_and_stretch_differ(guide, image) -> None:
    made = [concat_of(guide(image=image(64, 192), fit=fit)[0]) for fit in ("crop", "pad", "stretch")]
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[1], made[2])


def test_the_same_image_is_encoded_the_same_every_time(guide) -> None:
    first = concat_of(guide()[0])
    torch.rand(7)
    assert torch.equal(concat_of(guide()[0]), first)


def test_fs_left_at_zero_is_the_variants_own(load, scene) -> None:
    for variant, fs in (("dynamicrafter_512", 24), ("dynamicrafter_256", 3), ("dynamicrafter_512_interp", 5)):
        model = load(variant).model
        made = scene(load(variant), mode="loop" if "interp" in variant else "animate", frames=2)
        entry = {"cross_attn": made.positive[0][0], **made.positive[0][1]}
        conds = model.model.extra_conds(noise=made.latent["samples"], device="cpu", prompt_type="positive", **entry)
        assert conds["dynamicrafter_fs"].process_cond(batch_size=2).cond.tolist() == [fs, fs]


def test_fs_of_a_text_model_is_set_where_it_is_loaded(load, run, scene, sample, tiny_file) -> None:
    plain = load("videocrafter2_t2v_512")
    made = scene(plain, frames=2)

    def loaded(fs: int):
        asked = {"checkpoint": tiny_file("videocrafter2_t2v_512"), "variant": "auto", "weight_dtype": "default"}
        return run("DynamiCrafterLoad", **asked, fs=fs)[0]

    for node in ("KSampler", "DynamiCrafterSampler"):
        default = sample(made, node, steps=2)
        assert torch.equal(sample(made, node, steps=2, model=loaded(28)), default)
        assert (sample(made, node, steps=2, model=loaded(8)) - default).abs().max() > 1e-4
    kept = loaded(8).cached_patcher_init
    assert kept[0](*kept[1], disable_dynamic=True).model.family.fs_default == 8


def test_fs_in_the_conditioning_goes_before_the_loaders(run, scene, load, tiny_file) -> None:
    asked = {"variant": "auto", "weight_dtype": "default", "fs": 20, "projector": "in the same file"}
    (model,) = run("DynamiCrafterLoadParts", unet=tiny_file(), **asked)
    for fs, expected in ((0, 20), (15, 15)):
        made = scene(load(), frames=2, fs=fs)
        entry = {"cross_attn": made.positive[0][0], **made.positive[0][1]}
        conds = model.model.extra_conds(noise=made.latent["samples"], device="cpu", prompt_type="positive", **entry)
        assert conds["dynamicrafter_fs"].process_cond(batch_size=2).cond.tolist() == [expected] * 2


def test_fs_for_a_model_without_one_is_refused(run, tiny_file) -> None:
    asked = {"checkpoint": tiny_file("videocrafter1_t2v_512"), "variant": "auto", "weight_dtype": "default"}
    with refused("motion .fs. is 8, and VideoCrafter1 text-to-video 512 is not conditioned on it: leave it at 0"):
        run("DynamiCrafterLoad", **asked, fs=8)


def test_unconditional_image_is_mid_grey(run, loaded, made, image) -> None:
    """Its tokens are those of an image of 0.5 everywhere."""
    grey = torch.full((1, 40, 60, 3), 0.5)
    inputs = {"model": loaded.model, "clip_vision": loaded.vision, "positive": made.positive, "negative": made.negative}
    positive, _ = run("DynamiCrafterImageContext", image=grey, **inputs)
    torch.testing.assert_close(positive[0][1]["dynamicrafter_image"], made.negative[0][1]["dynamicrafter_image"])
    assert not torch.allclose(made.positive[0][1]["dynamicrafter_image"], made.negative[0][1]["dynamicrafter_image"])


@pytest.mark.parametrize("size", [(224, 224), (225, 300), (320, 512), (576, 1024), (100, 50), (100, 400), (1000, 230)])
@pytest.mark.parametrize("square", [224, 28])
def test_images_reach_clip_as_kornia_would_resize_them(size, square, ours) -> None:
    core, vision = ours("dynamicrafter_core.models.preprocess"), ours("nodes.host.image_tokens")
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    resized = vision.squeeze_to_square(pixels, square)
    mean, std = (torch.tensor(values)[:, None, None] for values in (core.MEAN, core.STD))
    expected = core.preprocess_for_clip(pixels, square)
    torch.testing.assert_close(((resized + 1) / 2 - mean) / std, expected, atol=1e-5, rtol=1e-5)


def test_inputs_are_left_as_they_were(run, loaded, made, image) -> None:
    picture = image()
    before, keys = picture.clone(), set(made.positive[0][1])
    inputs = {"model": loaded.model, "clip_vision": loaded.vision, "negative": made.negative}
    run("DynamiCrafterImageContext", image=picture, positive=made.positive, **inputs)
    assert torch.equal(picture, before) and set(made.positive[0][1]) == keys


def refused(match: str):
    return pytest.raises(ValueError, match=match)


def test_wrong_images_are_refused(guide, image) -> None:
    with refused("end_image is not connected"):
        guide(mode="interpolate")
    with refused("choose interpolate, or disconnect end_image"):
        guide(mode="animate", end_image=image())
    with refused("2 first images and 3 end images"):
        guide(mode="interpolate", image=image(count=2), end_image=image(count=3))
    with refused("2 keyframes and 1 keyframe_positions"):
        guide(keyframes=image(count=2), keyframe_positions="1")
    with refused("keyframe_positions holds 7, which"):
        guide(keyframes=image(), keyframe_positions="7")
    with refused("keyframe_positions is '1, -3' and names a frame twice"):
        guide(keyframes=image(count=2), keyframe_positions="1, -3")
    with refused("give whole numbers from 0 to 3"):
        guide(keyframes=image(), keyframe_positions="two")
    with refused("needs a first and a last frame, and frames is 1"):
        guide(mode="loop", frames=1)


def test_missing_nodes_are_named(run, loaded, made, sample, load) -> None:
    (text,) = run("CLIPTextEncode", clip=loaded.clip, text="a cat")
    with refused("pass it through DynamiCrafterImageContext before the sampler"):
        sample(made, "KSampler", positive=text)
    inputs = {"model": loaded.model, "clip_vision": loaded.vision, "image": torch.rand(1, 64, 64, 3)}
    positive, negative = run("DynamiCrafterImageContext", **inputs, positive=text, negative=text)
    with refused("pass it through DynamiCrafterVisualGuidance before the sampler"):
        sample(made, "KSampler", positive=positive, negative=negative)
    with refused("sees no image: remove DynamiCrafterImageContext"):
        sample(made, "KSampler", model=load("videocrafter2_t2v_512").model)


def test_a_foreign_prompt_is_refused_by_its_width(made, sample) -> None:
    foreign = [[torch.zeros(1, 77, 768), made.positive[0][1]]]
    with refused("768 values a token .Stable Diffusion 1.x's CLIP-L., and DynamiCrafter 512 reads 64"):
        sample(made, "KSampler", positive=foreign)


def test_a_foreign_clip_vision_is_refused_by_its_width(ours, loaded) -> None:
    projector = ours("nodes.host.loading").projector_of(loaded.model)
    with refused("This CLIP_VISION gives 1664 values a token, and the model's projector reads 64"):
        ours("nodes.host.image_tokens").project(projector, torch.zeros(1, 257, 1664))


def test_latents_that_do_not_fit_are_refused(made, sample, run) -> None:
    def with_latent(*shape):
        return {"latent_image": {"samples": torch.zeros(*shape)}}

    with refused("The latent holds 6 frames, which do not divide into clips of the 4"):
        sample(made, "KSampler", **with_latent(6, 4, 8, 8))
    with refused("of 128x64 pixels and the visual detail guidance of 64x64"):
        sample(made, "KSampler", **with_latent(4, 4, 8, 16))
    with refused("A latent of 64x80 pixels does not fit this model, whose sides must be multiples of 64"):
        sample(made, "KSampler", **with_latent(4, 4, 10, 8))
    with refused("takes a video as a batch of frames"):
        sample(made, "KSampler", **with_latent(1, 4, 4, 8, 8))


def test_too_many_frames_for_one_pass_are_refused(loaded, scene, sample) -> None:
    with refused("80 frames is more than the 64 .* put DynamiCrafterWindows after the loader"):
        sample(scene(loaded, frames=80), "KSampler", steps=1)


def test_our_conditioning_is_refused_by_another_model(made, ours) -> None:
    guard = made.positive[0][1]["model_conds"]["dynamicrafter_frames"]
    with refused("made for a DynamiCrafter model, but the MODEL at the sampler is another"):
        guard.process_cond(batch_size=4, area=None)


def test_another_model_is_refused_by_our_nodes(made, run, loaded, image) -> None:
    class Other:
        model = torch.nn.Linear(1, 1)

    with refused("needs a MODEL of this pack, and this one is a Linear"):
        run("DynamiCrafterSchedule", model=Other(), steps=1, spacing="auto", denoise=1.0)
    with refused("needs a MODEL of this pack"):
        inputs = {"positive": made.positive, "negative": made.negative, "image": image(), "clip_vision": loaded.vision}
        run("DynamiCrafterImageContext", model=Other(), **inputs)


def test_a_replaced_schedule_is_refused_where_it_matters(made, run, extras, sample) -> None:
    extras("nodes_model_advanced")
    (model,) = run("ModelSamplingDiscrete", model=made.model, sampling="v_prediction", zsnr=True)
    with refused("remove|without a ModelSampling node"):
        sample(made, model=model)


def test_a_foreign_vae_is_refused(guide, loaded, run) -> None:
    class Flux:
        first_stage_model = object()
        latent_channels = 16
        latent_dim = 2

    with refused("latents of 16 channels"):
        guide(vae=Flux())
    with refused("has no VAE"):
        guide(vae=None)
    with refused("this VAE uses none"):
        run(
            "DynamiCrafterDecode",
            vae=loaded.vae,
            latent={"samples": torch.zeros(2, 4, 8, 8)},
            references=torch.rand(2, 8, 8, 3),
        )


FOREIGN = {
    "Stable Diffusion 1.x": {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3), "KEY": 768},
    "Stable Diffusion 2.x": {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3), "KEY": 1024},
    "SDXL": {"conditioner.embedders.0.transformer.x": (1,), "model.diffusion_model.label_emb.0.0.weight": (1, 1)},
    "Stable Video Diffusion": {
        "conditioner.embedders.0.x": (1,),
        "model.diffusion_model.input_blocks.1.0.time_stack.x": (1,),
    },
    "Wan video": {"blocks.0.self_attn.q.weight": (8, 8)},
    "LoRA": {"lora_unet_x.lora_up.weight": (4, 4)},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_checkpoint_of_another_architecture_is_named(name, run, server) -> None:
    from pathlib import Path

    import folder_paths
    from safetensors.torch import save_file

    shapes = dict(FOREIGN[name])
    if width := shapes.pop("KEY", None):
        shapes["model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"] = (8, width)
    path = Path(folder_paths.get_folder_paths("checkpoints")[0], "other.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    folder_paths.filename_list_cache.clear()
    with refused(name):
        run("DynamiCrafterLoad", checkpoint=path.name, variant="auto", weight_dtype="default")


def test_a_missing_file_is_named_with_where_to_get_it(pack, run) -> None:
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS["DynamiCrafterLoad"]
    said = kind.validate_inputs(checkpoint="dynamicrafter_1024_v1.ckpt")
    assert "dynamicrafter_1024_v1.ckpt is not in models/checkpoints" in said
    assert "Doubiiu/DynamiCrafter_1024" in said
    parts = nodes.NODE_CLASS_MAPPINGS["DynamiCrafterLoadParts"]
    assert "Doubiiu/ToonCrafter" in parts.validate_inputs(
        unet="tooncrafter_gone.safetensors", projector="in the same file"
    )
