"""Clips of several windows in the host: the library's own numbers, by our node and by the host's."""

import pytest
import torch

FRAMES = 10
PLAIN = {"window": 4, "overlap": 2, "fuse": "pyramid", "closed_loop": False, "stride": 1, "freenoise": False}


@pytest.fixture
def by_the_library(load, scene, ours, tiny_file, noise_of):
    """The library's guided windows on the same conditioning and noise."""
    import folder_paths

    def run(made, prompts=(), seed=1, plan=None, **windows):
        core = "dynamicrafter_core"
        windowed = ours(f"{core}.diffusion.windows")
        conditions = ours(f"{core}.pipeline.conditions")
        guidance = ours(f"{core}.diffusion.guidance")
        path = folder_paths.get_full_path("checkpoints", tiny_file())
        checkpoint = ours(f"{core}.checkpoints.checkpoint").load_checkpoint(path)
        unet, family = checkpoint.load("unet"), checkpoint.family
        (text, positive), (no_text, negative) = made.positive[0], made.negative[0]
        known = conditions.Conditions(
            torch.cat([text, no_text]),
            torch.cat([entry["dynamicrafter_image"] for entry in (positive, negative)]),
            positive["dynamicrafter_concat"].transpose(1, 2) * 0.18215,
            family.fs_default,
            later=torch.cat([text for text, _ in prompts]) if prompts else None,
        )
        names = {"window": "length"}
        chosen = windowed.Windows(**{names.get(key, key): value for key, value in {**PLAIN, **windows}.items()})
        x = noise_of(made, seed)
        if chosen.freenoise:
            x = windowed.shuffle_noise(x, chosen, seed)
        branches = conditions.in_windows(chosen, known, x.shape[2], lambda part: conditions.run_branches(unet, part))
        with torch.inference_mode():
            sampled = ours(f"{core}.diffusion.sampling").sample_ddim(
                guidance.guided(
                    branches, plan or guidance.Guidance(7.5, 3.0, family.guidance_rescale), family.schedule()
                ),
                x,
                family.schedule(),
                3,
                family.spacing,
                eta=0.0,
            )
        return sampled[0].transpose(0, 1) / 0.18215

    return run


@pytest.fixture
def made(load, scene):
    return scene(load(), frames=FRAMES)


def close(ours, theirs):
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().mean(), (ours - theirs).abs().max() / theirs.abs().mean()


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"overlap": 1, "fuse": "flat"},
        {"overlap": 3, "fuse": "overlap-linear", "window": 5},
        {"closed_loop": True},
        {"stride": 2, "freenoise": True},
    ],
    ids=str,
)
def test_our_node_gives_the_librarys_clip(chosen, made, sample, run, by_the_library) -> None:
    (model,) = run("DynamiCrafterWindows", model=made.model, **{**PLAIN, **chosen})
    close(sample(made, model=model, eta=0.0), by_the_library(made, **chosen))


@pytest.mark.parametrize("freenoise", [False, True])
def test_so_does_the_hosts_own_node(freenoise, made, sample, run, extras, by_the_library) -> None:
    """Newer hosts put the frame before it in front of each window, unless told not to."""
    extras("nodes_context_windows")
    import inspect

    import comfy.context_windows as host

    asked = {"context_length": 4, "context_overlap": 2, "context_schedule": "standard_static", "context_stride": 1}
    asked |= {"closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": freenoise}
    if "causal_window_fix" in inspect.signature(host.IndexListContextHandler).parameters:
        asked["causal_window_fix"] = False
    (model,) = run("ContextWindowsManual", model=made.model, **asked)
    close(sample(made, model=model, eta=0.0), by_the_library(made, freenoise=freenoise))


def test_guidance_over_the_run_is_of_the_whole_clip_in_windows_too(made, sample, run, ours, by_the_library) -> None:
    core = "dynamicrafter_core.diffusion"
    curve, plans, projection = (ours(f"{core}.{name}") for name in ("curves", "guidance_plan", "projection"))
    limits = plans.Limits(0.0, 0.5, projection.Projection(0.0, 0.5, -0.5))
    plan = plans.GuidancePlan(curve.Curve.read("text", "0: 3, 1: 2", 0, 100), curve.Curve.flat(2.0), 0.7, limits)
    (model,) = run("DynamiCrafterWindows", model=made.model, **PLAIN)
    asked = {
        "text": "0: 3, 1: 2",
        "image": "2",
        "start": 0.0,
        "end": 0.5,
        "parallel": 0.0,
        "norm": 0.5,
        "momentum": -0.5,
    }
    (model,) = run("DynamiCrafterGuidance", model=model, **asked)
    close(sample(made, model=model, eta=0.0, guidance_rescale=0.7), by_the_library(made, plan=plan))


def test_combined_prompts_follow_one_another(load, made, sample, run, scene, by_the_library) -> None:
    second = scene(load(), prompt="the dog sleeps", frames=FRAMES)
    (model,) = run("DynamiCrafterWindows", model=made.model, **PLAIN)
    (both,) = run("ConditioningCombine", conditioning_1=made.positive, conditioning_2=second.positive)
    out = sample(made, model=model, eta=0.0, positive=both)
    close(out, by_the_library(made, second.positive))
    assert not torch.allclose(out, by_the_library(made), atol=1e-3)


def test_each_pass_holds_one_window(made, sample, run) -> None:
    (model,) = run("DynamiCrafterWindows", model=made.model, **PLAIN)
    rows = []
    hook = made.model.model.diffusion_model.register_forward_hook(lambda m, given, out: rows.append(out.shape[0]))
    try:
        sample(made, model=model, steps=1)
    finally:
        hook.remove()
    assert rows and all(count % 4 == 0 and count <= 12 for count in rows)  # up to three branches of a window


def test_a_clip_of_one_window_is_bit_identical_to_none(load, scene, sample, run) -> None:
    short = scene(load(), frames=4)
    (model,) = run("DynamiCrafterWindows", model=short.model, **PLAIN)
    assert torch.equal(sample(short, model=model), sample(short))


def test_what_cannot_be_is_refused(load, run) -> None:
    with pytest.raises(Exception, match="overlap is 4 and window is 4; give an overlap below the window"):
        run("DynamiCrafterWindows", model=load().model, **{**PLAIN, "overlap": 4})
    with pytest.raises(Exception, match="decodes a clip as a whole"):
        run("DynamiCrafterWindows", model=load("tooncrafter_512").model, **PLAIN)
