"""DDIM: the original's trajectories, and what every run must keep."""

import itertools
import math

import numpy as np
import pytest
import torch
from golden import assert_golden, golden, golden_input

from dynamicrafter_core.diffusion.guidance import guide
from dynamicrafter_core.diffusion.sampling import DDIM, sample_ddim
from dynamicrafter_core.diffusion.schedule import NoiseSchedule, ddim_timesteps
from dynamicrafter_core.errors import InputError

SHAPE = [1, 4, 2, 4, 4]
V7 = NoiseSchedule("v", zero_snr=True, base_scale=0.7)
V3 = NoiseSchedule("v", zero_snr=True, base_scale=0.3)
EPS = NoiseSchedule("eps")
EPS7 = NoiseSchedule("eps", base_scale=0.7)
EPS3 = NoiseSchedule("eps", base_scale=0.3, scale_length=1000)
SCHEDULES = [V7, V3, EPS, EPS7, EPS3]
UNRELEASED = [
    NoiseSchedule("v"),
    NoiseSchedule("eps", zero_snr=True),
    NoiseSchedule("eps", zero_snr=True, base_scale=0.5),
]
SPACINGS = ["uniform", "uniform_trailing"]

# models.md 3.6: where the original's first radicand rounds below 0, and its latents become NaN.
ORIGINAL_NAN_STEPS = [7, 11, 14, 15, 20, 25, 33, 34, 35, 37, 38, 39, 61, 62, 63, 64]
ORIGINAL_SAFE_STEPS = [10, 16, 24, 30, 40, 50, 60]

# (schedule, spacing, steps, eta, text scale, image scale, rescale) of the golden runs
DYNAMICRAFTER = {
    "v_zsnr_dyn0.7_S10_trailing_eta1_cfg7.5_gr0.7": (V7, "uniform_trailing", 10, 1.0, 7.5, None, 0.7),
    "v_zsnr_dyn0.3_S10_trailing_eta0_cfg7.5_gr0.7": (V3, "uniform_trailing", 10, 0.0, 7.5, None, 0.7),
    "v_zsnr_dyn0.7_S50_trailing_eta1_cfg7.5_gr0.7": (V7, "uniform_trailing", 50, 1.0, 7.5, None, 0.7),
    "eps_plain_S10_uniform_eta1_cfg7.5_gr0": (EPS, "uniform", 10, 1.0, 7.5, None, 0.0),
    "v_zsnr_dyn0.7_S10_trailing_eta1_MULTICOND_cfg7.5_cfgimg4_gr0.7": (V7, "uniform_trailing", 10, 1.0, 7.5, 4.0, 0.7),
}
VIDEOCRAFTER = {
    "use_scale_b0.7_S10_eta1_cfg12": (EPS7, "uniform", 10, 1.0, 12.0, None, 0.0),
    "use_scale_b0.3_len1000_S10_eta1_cfg12": (EPS3, "uniform", 10, 1.0, 12.0, None, 0.0),
    "no_scale_S10_eta1_cfg12": (EPS, "uniform", 10, 1.0, 12.0, None, 0.0),
    "use_scale_b0.7_S50_eta0_cfg12": (EPS7, "uniform", 50, 0.0, 12.0, None, 0.0),
}


def branch(x, t, bias, phase):
    """The golden files' stand-in for the network."""
    return 0.5 * x + bias + 0.1 * torch.sin(x + t.view(-1, *[1] * (x.ndim - 1)) / 1000 + phase)


def golden_noise(k, shape):
    return golden_input(f"noise{k}", shape)


def quiet(x, t):
    """A network with nothing to say."""
    return torch.zeros_like(x)


def oracle(schedule, x0):
    """The network that knows the data: it answers what x0 and the noise that is in x make."""

    def predict(x, t):
        ac, scale = schedule.alphas_cumprod[t[0]].item(), schedule.scale[t[0]].item()
        noise = (x - ac**0.5 * scale * x0) / (1 - ac) ** 0.5
        return schedule.target(x0, t, noise)

    return predict


@pytest.mark.parametrize("family", ["dynamicrafter", "videocrafter"])
def test_no_golden_trajectory_is_left_out(family):
    runs = {"dynamicrafter": DYNAMICRAFTER, "videocrafter": VIDEOCRAFTER}[family]
    assert set(golden(f"{family}_golden")["ddim"]) - {"net"} == set(runs)


@pytest.mark.parametrize("name", [*DYNAMICRAFTER, *VIDEOCRAFTER])
def test_trajectories_are_the_originals(name):
    family = "dynamicrafter" if name in DYNAMICRAFTER else "videocrafter"
    schedule, spacing, steps, eta, text_scale, image_scale, rescale = (DYNAMICRAFTER | VIDEOCRAFTER)[name]

    def predict(x, t):
        cond, uncond, image_only = branch(x, t, 0.02, 0.3), branch(x, t, -0.03, 1.1), branch(x, t, 0.01, 0.7)
        image_only = None if image_scale is None else image_only
        return guide(cond, uncond, image_only, text_scale, image_scale, rescale)

    after, data = [], []

    def on_step(k, total, x, x0):
        after.append(x.flatten()[0].item())
        data.append(x0.flatten()[0].item())

    final = sample_ddim(
        predict, golden_input("x_T", SHAPE), schedule, steps, spacing, eta, noise=golden_noise, on_step=on_step
    )
    expected = golden(f"{family}_golden")["ddim"][name]
    assert_golden(final, expected["final"], rtol=1e-5)
    assert after == pytest.approx(expected.get("after_step", expected.get("after_step_elem0")), rel=1e-4)
    assert data == pytest.approx(expected.get("pred_x0_elem0_per_step", expected.get("pred_x0_elem0")), rel=1e-4)


@pytest.mark.parametrize(("name", "schedule"), [("steps50/v_trailing", V7), ("steps50/eps_uniform", EPS)])
def test_fifty_steps_have_the_originals_coefficients(name, schedule):
    record = golden("schedules")[name]
    assert record["cols"] == ["t", "a_t", "a_prev", "sigma_eta1", "1-a_prev-sigma^2"]
    t, _, a_prev, sigma, radicand = (np.array(column) for column in zip(*reversed(record["rows"]), strict=True))
    ddim = DDIM(schedule, t[::-1].astype(int), eta=1.0)
    assert ddim.timesteps == t.tolist()
    np.testing.assert_allclose(ddim.signal**2, a_prev, rtol=1e-12)
    np.testing.assert_allclose(ddim.sigma, sigma, rtol=1e-6)
    np.testing.assert_allclose(ddim.direction**2, radicand, rtol=1e-6)


def test_the_rounding_that_made_the_original_nan_is_clamped():
    def first_radicand(steps):
        timesteps = ddim_timesteps(steps, "uniform_trailing")
        ac_prev = V7.alphas_cumprod[timesteps[-2]].float().numpy()
        ddim = DDIM(V7, timesteps, eta=1.0)
        assert 0 <= ddim.direction[0] < 1e-3
        return (1 - ac_prev) - ddim.sigma[0].astype(np.float32) ** 2

    assert all(first_radicand(steps) < 0 for steps in ORIGINAL_NAN_STEPS)
    assert all(first_radicand(steps) >= 0 for steps in ORIGINAL_SAFE_STEPS)


@pytest.mark.parametrize("schedule", SCHEDULES + UNRELEASED, ids=str)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_coefficients_of_every_run_are_finite_and_keep_the_variance(schedule, spacing):
    ac = schedule.alphas_cumprod.numpy()
    for steps in range(1, 1001):
        timesteps = ddim_timesteps(steps, spacing)
        share = np.append(ac[0], ac[timesteps[:-1]])[::-1]
        for eta in (0.0, 1.0):
            ddim = DDIM(schedule, timesteps, eta)
            table = np.stack([ddim.x0_factor, ddim.signal, ddim.direction, ddim.sigma])
            assert np.isfinite(table).all() and (table >= 0).all(), (steps, eta)
            assert np.abs(ddim.direction**2 + ddim.sigma**2 + share - 1).max() < 1e-6, (steps, eta)


@pytest.mark.parametrize("schedule", SCHEDULES + UNRELEASED, ids=str)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_latents_stay_finite_whatever_the_number_of_steps(schedule, spacing, eta):
    for steps in (1, 2, 3, 7, 20, 25, 61, 103, 251):
        out = sample_ddim(branch_of_one, torch.randn(1, 2), schedule, steps, spacing, eta)
        assert out.isfinite().all(), steps


def branch_of_one(x, t):
    return branch(x, t, 0.02, 0.3)


@pytest.mark.parametrize("plain", [NoiseSchedule("v", zero_snr=True), EPS], ids=str)
def test_a_step_from_one_timestep_to_the_next_is_the_ddpm_posterior(plain):
    """With eta 1 and every timestep, DDIM is ancestral sampling: q(x_prev | x_t, x_0), stored in every checkpoint."""
    posterior = plain.registered_buffers()
    ddim = DDIM(plain, range(1000), eta=1.0)
    x, x0 = golden_input("x", SHAPE), golden_input("x0", SHAPE)
    for t in (1, 2, 50, 500, 998):
        k = 999 - t
        mean, aimed = ddim.step(k, x, oracle(plain, x0)(x, torch.tensor([t])))
        torch.testing.assert_close(aimed, x0, rtol=1e-3, atol=1e-4)
        expected = posterior["posterior_mean_coef1"][t] * x0 + posterior["posterior_mean_coef2"][t] * x
        torch.testing.assert_close(mean, expected, rtol=1e-3, atol=1e-4)
        assert ddim.sigma[k] ** 2 == pytest.approx(posterior["posterior_variance"][t].item(), rel=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 4, 25, 61])
def test_a_run_guided_by_the_data_ends_at_the_data(schedule, spacing, steps):
    x0, x_T = golden_input("x0", SHAPE), golden_input("x_T", SHAPE)
    out = sample_ddim(oracle(schedule, x0), x_T, schedule, steps, spacing, eta=0.0)
    ac = schedule.alphas_cumprod[0].item()
    noise_left = (out - ac**0.5 * x0 * end_scale(schedule, steps, spacing)) / (1 - ac) ** 0.5
    first = schedule.alphas_cumprod[ddim_timesteps(steps, spacing)[-1]].item()
    scale = schedule.scale[ddim_timesteps(steps, spacing)[-1]].item()
    noise_seen = (x_T - first**0.5 * scale * x0) / (1 - first) ** 0.5  # x_T is taken to be noised data
    torch.testing.assert_close(noise_left, noise_seen, rtol=1e-2, atol=2e-2)


def end_scale(schedule, steps, spacing):
    """DynamiCrafter's result stays at the last timestep's scale; VideoCrafter's is the data's own."""
    return schedule.scale[ddim_timesteps(steps, spacing)[0]].item() if schedule.parameterization == "v" else 1.0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_with_eta_one_the_result_holds_no_more_noise_than_the_last_step_leaves(schedule):
    x0 = golden_input("x0", [1, 4, 16, 8, 8])
    generator = torch.Generator().manual_seed(1)
    x_T = torch.randn(x0.shape, generator=generator)
    out = sample_ddim(oracle(schedule, x0), x_T, schedule, 25, "uniform_trailing", generator=generator)
    ac = schedule.alphas_cumprod[0].item()
    noise_left = out - ac**0.5 * x0 * end_scale(schedule, 25, "uniform_trailing")
    assert noise_left.std().item() == pytest.approx((1 - ac) ** 0.5, rel=0.1)


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 33, 64])
def test_any_number_of_frames_and_clips_keeps_its_shape(frames):
    seen = []

    def predict(x, t):
        seen.append((list(x.shape), list(t.shape), t.dtype))
        return branch(x, t, 0.02, 0.3)

    out = sample_ddim(predict, torch.randn(3, 4, frames, 2, 3), V7, 3, "uniform_trailing")
    assert list(out.shape) == [3, 4, frames, 2, 3]
    assert seen == [([3, 4, frames, 2, 3], [3], torch.int64)] * 3


def test_predict_sees_the_timesteps_from_the_noisiest_down_and_on_step_counts_them():
    times, told = [], []

    def predict(x, t):
        times.append(t.tolist())
        return branch(x, t, 0.02, 0.3)

    out = sample_ddim(
        predict, torch.randn(2, 4), EPS, 30, "uniform", on_step=lambda k, total, x, x0: told.append((k, total, x, x0))
    )
    assert times == [[t, t] for t in reversed(ddim_timesteps(30, "uniform"))]
    assert [(k, total) for k, total, _, _ in told] == [(k, 31) for k in range(31)]
    assert torch.equal(told[-1][2], out)


def test_a_seed_gives_one_video_and_another_seed_another():
    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return sample_ddim(branch_of_one, golden_input("x_T", SHAPE), V7, 4, "uniform_trailing", generator=generator)

    assert torch.equal(run(5), run(5))
    assert not torch.allclose(run(5), run(6))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_seed_gives_the_same_video_on_a_gpu():
    def run(device):
        generator = torch.Generator().manual_seed(5)
        mask = torch.zeros(SHAPE)
        x_T = golden_input("x_T", SHAPE).to(device)
        options = {"generator": generator, "original": torch.ones(SHAPE), "mask": mask, "strength": 0.8}
        return sample_ddim(branch_of_one, x_T, V7, 10, "uniform_trailing", **options).cpu()

    torch.testing.assert_close(run("cuda"), run("cpu"), rtol=1e-4, atol=1e-5)


def test_without_eta_no_noise_is_drawn():
    def noise(k, shape):
        raise AssertionError("drawn")

    sample_ddim(branch_of_one, golden_input("x_T", SHAPE), V7, 4, "uniform_trailing", eta=0.0, noise=noise)
    with pytest.raises(AssertionError, match="drawn"):
        sample_ddim(branch_of_one, golden_input("x_T", SHAPE), V7, 4, "uniform_trailing", eta=0.1, noise=noise)


def test_half_precision_latents_are_sampled_in_single():
    inside, outside = [], []

    def predict(x, t):
        outside.append(x.dtype)
        return x.new_zeros(x.shape)

    x_T = golden_input("x_T", SHAPE).bfloat16()
    options = {"eta": 1.0, "noise": golden_noise}
    out = sample_ddim(
        predict, x_T, V7, 10, "uniform_trailing", on_step=lambda k, n, x, x0: inside.append(x.dtype), **options
    )
    assert set(inside) == {torch.float32} and set(outside) == {torch.bfloat16} and out.dtype == torch.bfloat16
    assert torch.equal(out, sample_ddim(quiet, x_T.float(), V7, 10, "uniform_trailing", **options).bfloat16())


def test_the_inputs_are_left_as_they_were():
    x_T, original, mask = golden_input("x_T", SHAPE), golden_input("x0", SHAPE), torch.ones(1, 1, 2, 1, 1)
    copies = [tensor.clone() for tensor in (x_T, original, mask)]
    sample_ddim(branch_of_one, x_T, V7, 4, "uniform_trailing", strength=0.5, original=original, mask=mask)
    assert all(torch.equal(now, then) for now, then in zip((x_T, original, mask), copies, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": math.nan}, "eta is nan; give a number from 0 to 1"),
        ({"eta": 1.5}, "eta is 1.5; give a number from 0 to 1"),
        ({"eta": "1"}, "eta is '1'"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1001}, "steps is 1001"),
        ({"steps": math.nan}, "steps is nan"),
        ({"spacing": "trailing"}, "spacing is 'trailing'"),
        ({"start": 0}, "start is 0"),
        ({"strength": math.nan, "original": torch.zeros(SHAPE)}, "strength is nan"),
        ({"strength": -0.1, "original": torch.zeros(SHAPE)}, "strength is -0.1"),
        ({"strength": 0.5}, "original is missing"),
        ({"mask": torch.ones(1)}, "original is missing"),
        ({"original": torch.zeros(1, 3, 2, 4, 4), "strength": 0.5}, r"original has shape \[1, 3, 2, 4, 4\]"),
        ({"original": torch.full(SHAPE, math.nan), "strength": 0.5}, "original holds NaN"),
        ({"original": torch.zeros(SHAPE), "mask": torch.ones(3)}, r"mask has shape \[3\].*\[1, 4, 2, 4, 4\]"),
        (
            {"original": torch.zeros(SHAPE), "mask": torch.tensor([-1.0, 2.0, 0.0, 0.0])},
            "mask holds values from -1 to 2",
        ),
        ({"x_T": torch.zeros(1, 4, 0, 4, 4)}, r"shape \[1, 4, 0, 4, 4\]"),
        ({"x_T": torch.zeros(SHAPE, dtype=torch.long)}, "floating-point latents"),
        ({"predict": lambda x, t: x[:, :2]}, r"predict returned the shape \[1, 2, 2, 4, 4\] for \[1, 4, 2, 4, 4\]"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(arguments, message):
    usual = {
        "predict": quiet,
        "x_T": torch.zeros(SHAPE),
        "schedule": V7,
        "steps": 4,
        "spacing": "uniform_trailing",
    }
    with pytest.raises(InputError, match=message):
        sample_ddim(**(usual | arguments))


def test_bad_input_is_refused_before_the_network_runs():
    def predict(x, t):
        raise AssertionError("ran")

    for name, value in itertools.product(("eta", "strength"), (math.nan, math.inf, -1)):
        with pytest.raises(InputError, match=f"{name} is"):
            sample_ddim(predict, torch.zeros(SHAPE), V7, 4, "uniform", **{name: value})
