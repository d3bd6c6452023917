"""T2V-Turbo: a UNet that takes guidance and motion scales as inputs, and few steps of consistency sampling."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import assert_golden, fill, golden, golden_input

from dynamicrafter_core.diffusion.consistency import consistency_timesteps, sample_consistency
from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.blocks import scale_sinusoid
from dynamicrafter_core.models.hooks import BlockHooks, Hooks
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.models.unet_config import UNetConfig

GOLDEN = golden("t2v_turbo_golden")
FLAVOURS = ["turbo_like", "turbo_v2_mg_like"]
SHAPE = [1, 4, 2, 4, 4]
EPS = NoiseSchedule("eps")
THIN = UNetConfig(
    in_channels=4,
    model_channels=32,
    channel_mult=(1, 2),
    res_blocks=1,
    head_channels=8,
    context_dim=12,
    image_attention=False,
    guidance_dim=16,
    motion_dim=16,
)
PLAIN = replace(THIN, guidance_dim=0, motion_dim=0)


def config_of(flavour: str) -> UNetConfig:
    return UNetConfig.from_reference(GOLDEN[flavour]["config"])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("w", [7.5, 2.0])
def test_the_unet_is_exact(flavour: str, w: float) -> None:
    motion = " motion_gs=0.05" if flavour == "turbo_v2_mg_like" else ""
    unet = fill(VideoUNet(config_of(flavour)))
    text = golden_input("context", [1, 93, 48])[:, :77]
    with torch.inference_mode():
        out = unet(
            golden_input("x", [1, 4, 4, 16, 24]),
            torch.tensor([321]),
            text,
            fs=torch.tensor([16]),
            guidance=torch.tensor([w]),
            motion_scale=torch.tensor([0.05]) if motion else None,
        )
    assert_golden(out, GOLDEN[flavour][f"t=321 fps=[16] w={w}{motion}"])


@pytest.mark.parametrize(("flavour", "count"), [("turbo_like", 955), ("turbo_v2_mg_like", 957)])
def test_keys_and_modules_are_the_originals_and_tell_the_config(flavour: str, count: int) -> None:
    config = config_of(flavour)
    shapes = {key: tuple(value.shape) for key, value in VideoUNet(config, device="meta").state_dict().items()}
    expected = {key: tuple(shape) for key, shape in GOLDEN[flavour]["state_keys"].items()}
    assert shapes == expected
    modules = [list(dict.fromkeys(key.split(".")[0] for key in keys)) for keys in (shapes, expected)]
    assert modules[0] == modules[1]
    assert len(shapes) == count
    assert UNetConfig.from_shapes(shapes, default_fs=config.default_fs) == config


def test_the_scale_enters_as_the_originals_sines_and_cosines() -> None:
    (made,) = scale_sinusoid(torch.tensor([7.5]), 256)
    expected = GOLDEN["w_embedding(7.5), first 8 and last 4"]
    assert [*made[:8].tolist(), *made[-4:].tolist()] == pytest.approx(expected, abs=1e-4)


def run(unet: VideoUNet, branches: int = 1, hooks: Hooks | None = None, **scales: torch.Tensor) -> torch.Tensor:
    x = golden_input("x", [2, 4, 2, 4, 4])
    text = golden_input("text", [2 * branches, 7, 12])
    with torch.inference_mode():
        return unet(x, torch.tensor([500, 100]), text, **scales, **({"hooks": hooks} if hooks else {}))


def test_the_scales_are_each_clips_own_and_repeated_where_branches_are() -> None:
    unet = fill(VideoUNet(THIN))
    scales = {"guidance": torch.tensor([7.5, 2.0]), "motion_scale": torch.tensor([0.05, 0.0])}
    shared = run(unet, 2, **scales)
    seen = Hooks({"input 0": BlockHooks(after=(lambda h, where: h,))})
    assert seen.before_branches_part
    torch.testing.assert_close(run(unet, 2, seen, **scales), shared, atol=1e-5, rtol=1e-5)
    for name in scales:
        swapped = run(unet, 2, **{**scales, name: scales[name].flip(0)})
        assert (swapped - shared).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("config", "scales", "named"),
    [
        (PLAIN, {"guidance": torch.ones(2)}, "takes no guidance.*leave it out"),
        (PLAIN, {"motion_scale": torch.ones(2)}, "takes no motion_scale.*leave it out"),
        (THIN, {"motion_scale": torch.ones(2)}, "takes guidance as an input, and it is missing"),
        (THIN, {"guidance": torch.ones(2)}, "takes motion_scale as an input, and it is missing"),
        (THIN, {"guidance": torch.ones(1), "motion_scale": torch.ones(2)}, r"guidance.*\[1\].*2 clips"),
        (THIN, {"guidance": torch.ones(2), "motion_scale": torch.ones(2).int()}, "motion_scale.*int32"),
    ],
)
def test_scales_that_do_not_fit_the_unet_are_refused(config: UNetConfig, scales: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        run(VideoUNet(config), **scales)


@pytest.mark.parametrize("steps", GOLDEN["timesteps"])
def test_timesteps_are_the_originals(steps: str) -> None:
    assert consistency_timesteps(int(steps)) == GOLDEN["timesteps"][steps]


def test_every_accepted_number_of_steps_has_as_many_distinct_timesteps() -> None:
    for steps in range(1, 51):
        made = consistency_timesteps(steps)
        assert len(set(made)) == steps and made[0] == 999 and made[-1] >= 19
        assert made == sorted(made, reverse=True)


def net(x: torch.Tensor, t: torch.Tensor, guidance: torch.Tensor, motion: torch.Tensor | None) -> torch.Tensor:
    """The golden file's stand-in for the network."""
    return 0.5 * x + 0.02 + 0.1 * torch.sin(x + t.view(-1, 1, 1, 1, 1) / 1000 + 0.3)


@pytest.mark.parametrize("steps", [4, 8])
def test_trajectories_are_the_originals(steps: int) -> None:
    noise = lambda k, shape: golden_input(f"noise{k}", shape)  # noqa: E731
    told = []
    final = sample_consistency(
        net, golden_input("x_T", SHAPE), EPS, steps, noise=noise, on_step=lambda *step: told.append(step)
    )
    assert_golden(final, GOLDEN["trajectory"][f"{steps} steps"]["last denoised"])
    assert [(k, total) for k, total, *_ in told] == [(k, steps) for k in range(steps)]
    assert torch.equal(told[-1][3], final)


def originals_steps(steps: int, w: float, motion: float, percentage: float) -> tuple[torch.Tensor, list[tuple]]:
    """The original's whole run once more, in float64 and without the project's modules: the result, and what its network got."""
    ac = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    spaced = np.arange(1, 51) * 20 - 1
    x, told = golden_input("x_T", SHAPE).double(), []
    for k, t in enumerate(chosen := spaced[::-1][:: 50 // steps][:steps]):
        told.append((int(t), w, 0.0 if t < 1000 * (1 - percentage) else motion))
        eps = 0.5 * x + 0.02 + 0.1 * torch.sin(x + t / 1000 + 0.3)
        x0 = (x - (1 - ac[t]) ** 0.5 * eps) / ac[t] ** 0.5
        c_skip, c_out = 0.25 / ((10 * t) ** 2 + 0.25), (10 * t) / ((10 * t) ** 2 + 0.25) ** 0.5
        denoised = c_out * x0 + c_skip * x
        if k + 1 < steps:
            before = ac[chosen[k + 1]]
            x = before**0.5 * denoised + (1 - before) ** 0.5 * golden_input(f"noise{k}", SHAPE).double()
    return denoised, told


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16, 50])
def test_every_published_number_of_steps_is_the_formula_written_out_again(steps: int) -> None:
    told = []

    def predict(x: torch.Tensor, t: torch.Tensor, guidance: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        told.append((int(t), guidance.item(), round(motion.item(), 6)))
        return net(x, t, guidance, motion)

    noise = lambda k, shape: golden_input(f"noise{k}", shape)  # noqa: E731
    made = sample_consistency(predict, golden_input("x_T", SHAPE), EPS, steps, 5.0, 0.05, 0.3, noise)
    expected, wanted = originals_steps(steps, 5.0, 0.05, 0.3)
    assert told == wanted and len(told) == steps
    torch.testing.assert_close(made.double(), expected, atol=1e-4, rtol=1e-4)


def test_the_network_is_told_the_scales_and_motion_ends_with_its_share() -> None:
    told = []

    def predict(x, t, guidance, motion):
        told.append((t.tolist(), guidance.tolist(), None if motion is None else [round(m, 4) for m in motion.tolist()]))
        return x

    x_T = golden_input("x_T", [2, 4, 2, 4, 4])
    sample_consistency(predict, x_T, EPS, 4, 5.0, 0.05, 0.5)
    assert told == [([t, t], [5.0, 5.0], [m, m]) for t, m in ((999, 0.05), (759, 0.05), (519, 0.05), (279, 0.0))]
    told.clear()
    sample_consistency(predict, x_T, EPS, 4, 5.0, 0.05, 0.3)
    assert [motion for *_, motion in told] == [[0.05] * 2, [0.05] * 2, [0.0] * 2, [0.0] * 2]
    told.clear()
    sample_consistency(predict, x_T, EPS, 1)
    assert told == [([999, 999], [7.5, 7.5], None)]


def test_a_seed_gives_the_same_latents_and_half_precision_stays_outside() -> None:
    def made(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        x_T = golden_input("x_T", SHAPE).to(dtype)
        return sample_consistency(net, x_T, EPS, 4, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))
    half = made(1, torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert (half.float() - made(1)).abs().max() < 0.2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 0}, "steps is 0.*1 to 50"),
        ({"steps": 51}, "steps is 51.*1 to 50"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"motion_scale": float("inf")}, "motion_scale is inf"),
        ({"motion_share": 1.5}, "motion_share is 1.5.*0 to 1"),
        ({"x_T": torch.zeros(3)}, "the noise is a"),
    ],
)
def test_what_the_sampler_cannot_use_is_refused(options: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        sample_consistency(**{"predict": net, "x_T": torch.zeros(SHAPE), "schedule": EPS, **options})
    with pytest.raises(InputError, match="keep the shape"):
        sample_consistency(lambda x, *_: x[:, :1], torch.zeros(SHAPE), EPS)
