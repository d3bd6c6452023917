"""Drawings in the host: the library's numbers, by our node, and ControlNets of Stable Diffusion 2.1 shape for any number of frames."""

from pathlib import Path
from typing import Any

import pytest
import torch
from micro import sketch_config, write_sketch_encoder
from tiny import tiny_configs

SCALE = 0.18215
FRAMES = 6
ASKED = {"strength": 0.6, "start": 0.0, "end": 1.0, "lines": "dark", "between": "blank", "fit": "crop"}


@pytest.fixture(scope="session")
def encoder_file(server: Any) -> str:
    import folder_paths

    folder = Path(folder_paths.get_folder_paths("controlnet")[0])
    folder.mkdir(parents=True, exist_ok=True)
    configs: Any = tiny_configs("dynamicrafter_512")
    write_sketch_encoder(folder / "tiny_sketch.safetensors", sketch_config(configs["unet"], 8), size=0.1)
    folder_paths.filename_list_cache.clear()
    return "tiny_sketch.safetensors"


@pytest.fixture
def made(load, scene):
    return scene(load(), frames=FRAMES)


@pytest.fixture
def draw(run, encoder_file):
    """The scene with drawings of black and white patches."""

    def make(made, frames="1, 4", count=2, drawings=None, **asked):
        from copy import copy

        if drawings is None:
            coarse = torch.rand(count, 8, 8, 1, generator=torch.Generator().manual_seed(3)).round()
            drawings = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2).expand(-1, -1, -1, 3)
        given = {"sketch_encoder": encoder_file, "drawings": drawings, "frames": frames, **ASKED, **asked}
        drawn = copy(made)
        drawn.positive, drawn.negative = run(
            "DynamiCrafterSketch", positive=made.positive, negative=made.negative, **given
        )
        drawn.drawings, drawn.places = drawings, frames
        return drawn

    return make


@pytest.fixture
def by_the_library(ours, tiny_file, encoder_file, noise_of):
    """The library's own run on the same conditioning, noise and drawings."""
    import folder_paths

    def run(made, windows=None, guidance=(2.5, 1.5, 0.7), **asked):
        core = "dynamicrafter_core"
        conditions, sketches = ours(f"{core}.pipeline.conditions"), ours(f"{core}.pipeline.sketches")
        path = folder_paths.get_full_path("checkpoints", tiny_file())
        checkpoint = ours(f"{core}.checkpoints.checkpoint").load_checkpoint(path)
        unet, family = checkpoint.load("unet"), checkpoint.family
        encoder = ours(f"{core}.checkpoints.sketch_file").open_sketch_encoder(
            folder_paths.get_full_path("controlnet", encoder_file)
        )
        plan = sketches.SketchPlan(
            **{key: value for key, value in {**ASKED, **asked}.items() if key in sketches.SketchPlan.__annotations__}
        )
        x = noise_of(made)
        places = [int(place) for place in made.places.split(",")]
        pictures = dict(zip(places, 2 * made.drawings.movedim(-1, 1) - 1, strict=True))
        drawings = sketches.Drawings.of_frames(pictures, x.shape[2], (64, 64), "crop", plan)
        (text, positive), (no_text, negative) = made.positive[0], made.negative[0]
        known = conditions.Conditions(
            torch.cat([text, no_text]),
            torch.cat([entry["dynamicrafter_image"] for entry in (positive, negative)]),
            positive["dynamicrafter_concat"].transpose(1, 2) * SCALE,
            family.fs_default,
            drawings=drawings,
        )
        chosen = windows and ours(f"{core}.diffusion.windows").Windows(**windows)
        guide, loaded = ours(f"{core}.diffusion.guidance"), encoder.load()
        branches = conditions.in_windows(
            chosen, known, x.shape[2], lambda part: conditions.run_branches(unet, part, encoder=loaded)
        )
        with torch.inference_mode():
            sampled = ours(f"{core}.diffusion.sampling").sample_ddim(
                guide.guided(branches, guide.Guidance(*guidance), family.schedule()),
                x,
                family.schedule(),
                3,
                family.spacing,
                eta=0.0,
            )
        return sampled[0].transpose(0, 1)

    return run


LOW = {"eta": 0.0, "cfg_text": 2.5, "cfg_image": 1.5, "guidance_rescale": 0.7}


@pytest.mark.parametrize(
    "asked", [{}, {"between": "free", "strength": 1.0}, {"start": 0.3, "end": 0.9}, {"lines": "light"}], ids=str
)
def test_our_node_gives_the_librarys_clip(asked, made, draw, sample, by_the_library) -> None:
    drawn = draw(made, **asked)
    actual, expected = sample(drawn, **LOW) * SCALE, by_the_library(drawn, **asked)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    assert (actual - sample(made, **LOW) * SCALE).abs().max() > 1e-2


@pytest.mark.parametrize("between", ["blank", "free"])
def test_each_window_gets_its_own_frames(between, made, draw, sample, run, by_the_library) -> None:
    windows = {"overlap": 2, "fuse": "pyramid", "closed_loop": False, "stride": 1, "freenoise": False}
    (model,) = run("DynamiCrafterWindows", model=made.model, window=4, **windows)
    drawn = draw(made, between=between)
    expected = by_the_library(drawn, {"length": 4, **windows}, between=between)
    torch.testing.assert_close(sample(drawn, model=model, **LOW) * SCALE, expected, atol=1e-4, rtol=1e-4)


def test_the_hosts_own_windows_do_too(made, draw, sample, extras, run, ours) -> None:
    """Newer hosts put the frame before it in front of each window: the drawings move with it."""
    extras("nodes_context_windows")
    asked = {"context_length": 3, "context_overlap": 1, "context_schedule": "standard_static", "context_stride": 1}
    asked |= {"closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": False}
    import comfy_extras.nodes_context_windows as windows

    model = windows.ContextWindowsManualNode.execute(model=made.model, **asked).args[0]
    seen = []
    control = ours("nodes.host.sketch").SketchControl
    own = control.drawings

    def drawings(self, x, window):
        found = own(self, x, window)
        seen.append((x.shape[2], list(window.index_list), found.drawn))
        return found

    control.drawings = drawings
    try:
        out = sample(draw(made, "1, 4"), model=model, **LOW)
    finally:
        control.drawings = own
    assert out.isfinite().all() and len(seen) >= 4
    for length, frames, drawn in seen:
        assert len(drawn) == length and drawn[-len(frames) :] == tuple(frame in (1, 4) for frame in frames)


def test_strength_0_changes_nothing_and_branches_apart_are_branches_together(made, draw, sample, monkeypatch) -> None:
    assert torch.equal(sample(draw(made, strength=0.0)), sample(made))
    drawn = draw(made)
    together = sample(drawn, **LOW)
    monkeypatch.setattr(type(made.model), "get_free_memory", lambda self, device: 0)
    torch.testing.assert_close(sample(drawn, **LOW), together, atol=1e-4, rtol=1e-3)


def test_any_sampler_of_the_host_follows_and_the_encoder_runs_once_for_all_branches(made, draw, sample) -> None:
    drawn = draw(made)
    control = drawn.positive[0][1]["control"]
    assert control is drawn.negative[0][1]["control"]
    calls = []
    hook = control.encoder.model.register_forward_hook(lambda *given: calls.append(1))
    try:
        out = sample(drawn, "KSampler", steps=2)
    finally:
        hook.remove()
    assert len(calls) == 2
    assert (out - sample(made, "KSampler", steps=2)).abs().max() > 1e-2


def test_the_host_loads_the_encoder_beside_the_model(made, draw, sample, monkeypatch) -> None:
    import comfy.model_management

    drawn, loaded = draw(made), []
    load = comfy.model_management.load_models_gpu
    monkeypatch.setattr(
        comfy.model_management,
        "load_models_gpu",
        lambda models, *a, **k: (loaded.extend(models), load(models, *a, **k)),
    )
    sample(drawn, steps=1)
    assert any(one is drawn.positive[0][1]["control"].encoder for one in loaded)


def test_several_clips_follow_the_same_drawings(load, scene, image, draw, sample) -> None:
    import copy

    pictures = image(count=2)
    options = {"steps": 2, **LOW}
    both = sample(draw(scene(load(), images=pictures), "1, 2"), **options)
    second = scene(load(), images=pictures[1:])
    second.latent = copy.copy(second.latent) | {"batch_index": [4, 5, 6, 7]}
    torch.testing.assert_close(sample(draw(second, "1, 2"), **options), both[4:], atol=1e-4, rtol=1e-3)


def test_drawings_of_several_nodes_add_up(made, draw, sample) -> None:
    first = draw(made, "1", 1)
    both = draw(first, "4", 1, between="free")
    outs = [sample(each, steps=2, **LOW) for each in (first, draw(made, "4", 1, between="free"), both)]
    assert all((outs[2] - one).abs().max() > 1e-3 for one in outs[:2])


def fill(module: torch.nn.Module) -> None:
    """Weights that keep the size of what passes through them."""
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
        else:  # norms
            value.fill_(float(name.endswith("weight")))


def hosts_controlnet(hint_channels: int) -> Any:
    """The host's own of Stable Diffusion 2.1, as thin as the tiny models."""
    import comfy.cldm.cldm
    import comfy.ops

    return comfy.cldm.cldm.ControlNet(
        image_size=32,
        in_channels=4,
        model_channels=32,
        hint_channels=hint_channels,
        num_res_blocks=[2, 2, 2, 2],
        channel_mult=(1, 2, 4, 4),
        num_head_channels=16,
        num_heads=-1,
        use_spatial_transformer=True,
        transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0],
        transformer_depth_middle=1,
        context_dim=64,
        use_linear_in_transformer=True,
        dtype=torch.float32,
        operations=comfy.ops.manual_cast,
    )


def test_an_encoder_is_the_hosts_controlnet_of_the_same_weights(server, ours, encoder_file) -> None:
    """Ours, against the one that the host has for Stable Diffusion 2.1, of five frames."""
    core = "dynamicrafter_core"
    configs: Any = tiny_configs("dynamicrafter_512")
    config = sketch_config(configs["unet"], 8)
    sketch, unet = ours(f"{core}.models.sketch"), ours(f"{core}.models.unet_config")
    own = sketch.SketchEncoder(
        sketch.SketchEncoderConfig(unet.UNetConfig(**vars(config.unet)), hint_widths=(16, 32, 96, 256))
    )
    fill(own)
    generator = torch.Generator().manual_seed(0)
    theirs = hosts_controlnet(1)
    theirs.load_state_dict(own.state_dict())
    x = torch.randn(1, 4, 5, 8, 8, generator=generator)
    hint, text = torch.rand(1, 1, 5, 64, 64, generator=generator), torch.randn(1, 7, 64, generator=generator)
    rows, pixels = x[0].transpose(0, 1), hint[0].transpose(0, 1)
    with torch.inference_mode():
        skips, middle = own(x, hint, torch.tensor([700]), text, strength=1.0)
        out = theirs(x=rows, hint=pixels, timesteps=torch.full((5,), 700.0), context=text.expand(5, -1, -1))
    for one, other in zip([*skips, middle], [*out["output"], *out["middle"]], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("frames", [1, 5, 20])
def test_the_hosts_own_controlnet_works_with_any_number_of_frames(frames, load, scene, sample, run, ours) -> None:
    """One hint for all frames, and one for each, of Stable Diffusion 2.1's shape with three channels."""
    import comfy.controlnet
    import comfy.model_management

    net = hosts_controlnet(3)
    fill(net)
    control = comfy.controlnet.ControlNet(net, load_device=comfy.model_management.get_torch_device())
    made = scene(load(), frames=frames)
    outs = []
    for count in {1, frames}:
        given = {"control_net": control, "image": torch.rand(count, 64, 64, 3), "strength": 1.0}
        positive, negative = run(
            "ControlNetApplyAdvanced",
            positive=made.positive,
            negative=made.negative,
            start_percent=0.0,
            end_percent=1.0,
            **given,
        )
        outs.append(sample(made, steps=2, positive=positive, negative=negative, **LOW))
    plain = sample(made, steps=2, **LOW)
    assert all(len(out) == frames and out.isfinite().all() and (out - plain).abs().max() > 1e-3 for out in outs)
    if frames > 1:
        assert (outs[0] - outs[1]).abs().max() > 1e-3


def test_what_cannot_be_is_refused_in_a_sentence(made, draw, sample, run, load, scene, encoder_file, tiny_file) -> None:
    for frames, said in (
        ("1", r"There are 2 drawings and 1 frames \[1\]: give one for each"),
        ("a, b", "frames is 'a, b'; give whole numbers"),
        ("2, 2", "names a frame twice"),
        ("1, 6", "the frame of a drawing is 6; give a whole number from -6 to 5"),
    ):
        with pytest.raises(ValueError, match=said):
            draw(made, frames)
    with pytest.raises(ValueError, match="starts at 0.5 and ends at 0.5"):
        draw(made, start=0.5, end=0.5)
    with pytest.raises(ValueError, match="not ToonCrafter's sketch encoder"):
        draw(made, sketch_encoder=tiny_file())
    with pytest.raises(
        ValueError, match="reads 8 pixels of a drawing for each latent pixel, and the model's autoencoder makes"
    ):
        draw(scene(load("embedded")), "1, 2")
    import nodes

    said = nodes.NODE_CLASS_MAPPINGS["DynamiCrafterSketch"].validate_inputs(sketch_encoder="gone.ckpt")
    assert "gone.ckpt is not in models/controlnet" in said and "Doubiiu/ToonCrafter" in said
    assert nodes.NODE_CLASS_MAPPINGS["DynamiCrafterSketch"].validate_inputs(sketch_encoder=encoder_file) is True


def test_negative_and_no_frames(made, draw, sample) -> None:
    from_the_end, first_ones = draw(made, "-5, -2"), draw(made, "")
    assert torch.equal(sample(from_the_end, steps=1), sample(draw(made, "1, 4"), steps=1))
    assert torch.equal(sample(first_ones, steps=1), sample(draw(made, "0, 1"), steps=1))


def test_a_text_model_follows_too(load, scene, draw, sample) -> None:
    made = scene(load("videocrafter2_t2v_512"), frames=4)
    drawn = draw(made, "1, -1")
    assert (sample(drawn, steps=2) - sample(made, steps=2)).abs().max() > 1e-3
