"""The noise schedules, their tables in checkpoints, and the timestep lists."""

import math

import numpy as np
import pytest
import torch
from golden import golden, manifest

from dynamicrafter_core.diffusion.schedule import NoiseSchedule, ddim_timesteps
from dynamicrafter_core.errors import InputError

GOLDEN = golden("schedules")
SCHEDULES = {
    "dynamicrafter_256": NoiseSchedule("eps"),
    "dynamicrafter_512": NoiseSchedule("v", zero_snr=True, base_scale=0.7),
    "dynamicrafter_512_interp": NoiseSchedule("v", zero_snr=True, base_scale=0.7),
    "dynamicrafter_1024": NoiseSchedule("v", zero_snr=True, base_scale=0.3),
    "tooncrafter_512": NoiseSchedule("v", zero_snr=True, base_scale=0.7),
    "videocrafter1_t2v_512": NoiseSchedule("eps"),
    "videocrafter1_t2v_1024": NoiseSchedule("eps", base_scale=0.3, scale_length=1000),
    "videocrafter1_i2v_512": NoiseSchedule("eps", base_scale=0.7),
    "videocrafter2_t2v_512": NoiseSchedule("eps", base_scale=0.7),
}
DISTINCT = sorted(set(SCHEDULES.values()), key=str)


def valid(timesteps, start=1000):
    return timesteps[0] >= 0 and timesteps[-1] < start and all(np.diff(timesteps) > 0)


def reference_list(steps, spacing, start=1000):
    """As models.md 3.4 writes it, faults and all."""
    if spacing == "uniform":
        return [t + 1 for t in range(0, start, start // steps)]
    return (np.flip(np.round(np.arange(start, 0, -(start / steps)))) - 1).astype(int).tolist()


@pytest.mark.parametrize(("zero_snr", "name"), [(False, "plain"), (True, "zero_snr")])
def test_schedules_are_the_originals(zero_snr, name):
    schedule = NoiseSchedule("v", zero_snr)
    for table, expected in (("betas", "betas_f64"), ("alphas_cumprod", "alphas_cumprod_f64")):
        actual = getattr(schedule, table)
        assert actual.dtype == torch.float64
        assert actual.tolist() == pytest.approx(GOLDEN[name][expected], rel=1e-9, abs=1e-15)


def test_zero_snr_stretches_the_signal_from_its_first_value_to_zero():
    plain, stretched = (NoiseSchedule("v", zero).alphas_cumprod.sqrt() for zero in (False, True))
    assert stretched[-1] == 0
    slope = (stretched[:-1] - stretched[1:]) / (plain[:-1] - plain[1:])
    torch.testing.assert_close(slope, torch.full_like(slope, (plain[0] / (plain[0] - plain[-1])).item()))


@pytest.mark.parametrize("base", [0.7, 0.3])
def test_dynamic_rescale_is_the_originals(base):
    assert NoiseSchedule("v", True, base).scale_arr.tolist() == pytest.approx(GOLDEN[f"scale_arr_{base}"])
    short = NoiseSchedule("eps", False, base, scale_length=1000)
    assert short.scale_arr.tolist() == pytest.approx(GOLDEN[f"scale_arr_{base}"][:1000])
    assert short.scale.tolist() == NoiseSchedule("v", True, base).scale.tolist()


def test_without_dynamic_rescale_the_scale_is_one():
    assert NoiseSchedule("eps").scale_arr is None
    assert NoiseSchedule("eps").scale.tolist() == [1.0] * 1000


@pytest.mark.parametrize("name", SCHEDULES)
def test_registered_buffers_are_those_of_the_released_file(name):
    stored = {key: shape for key, shape in manifest(name).items() if "." not in key}
    buffers = SCHEDULES[name].registered_buffers()
    assert {key: tuple(buffer.shape) for key, buffer in buffers.items()} == stored
    assert {buffer.dtype for buffer in buffers.values()} == {torch.float32}
    assert all(buffer.isfinite().all() for buffer in buffers.values())


@pytest.mark.parametrize("schedule", DISTINCT, ids=str)
def test_registered_buffers_hold_the_schedule_and_its_posterior(schedule):
    buffers = schedule.registered_buffers()
    ac = np.cumprod(1 - schedule.betas.numpy())
    for t in (1, 2, 400, 998, 999):
        beta, now, before = float(schedule.betas[t]), ac[t], ac[t - 1]
        # Bayes by precisions: the likelihood of x_t has precision alpha / beta, the prior given x_0 1 / (1 - before).
        precision = (1 - beta) / beta + 1 / (1 - before)
        expected = {
            "betas": beta,
            "alphas_cumprod": now,
            "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": math.sqrt(now),
            "sqrt_one_minus_alphas_cumprod": math.sqrt(1 - now),
            "log_one_minus_alphas_cumprod": math.log1p(-now),
            "posterior_variance": 1 / precision,
            "posterior_log_variance_clipped": -math.log(precision),
            "posterior_mean_coef1": math.sqrt(before) / (1 - before) / precision,
            "posterior_mean_coef2": math.sqrt(1 - beta) / beta / precision,
        }
        for name, value in expected.items():
            assert buffers[name][t].item() == pytest.approx(value, rel=1e-5, abs=1e-7), (name, t)
        noise_to_signal = math.sqrt(1 / now - 1) if schedule.parameterization == "eps" else 0
        assert buffers["sqrt_recipm1_alphas_cumprod"][t].item() == pytest.approx(noise_to_signal, rel=1e-6)
        recip = math.hypot(1, noise_to_signal) if schedule.parameterization == "eps" else 0
        assert buffers["sqrt_recip_alphas_cumprod"][t].item() == pytest.approx(recip, rel=1e-6)
    assert buffers["posterior_log_variance_clipped"][0].item() == pytest.approx(math.log(1e-20))


@pytest.mark.parametrize("schedule", DISTINCT, ids=str)
def test_a_perfect_network_gives_back_data_and_noise_at_every_timestep(schedule):
    torch.manual_seed(0)
    x0, noise = torch.randn(2, 1000, 3, 2, dtype=torch.float64)
    t = torch.arange(1000)
    x, output = schedule.q_sample(x0, t, noise), schedule.target(x0, t, noise)
    torch.testing.assert_close(schedule.x0(output, x, t), x0 * schedule.scale[:, None, None])
    torch.testing.assert_close(schedule.eps(output, x, t), noise)


def test_noising_and_v_are_one_rotation():
    schedule = NoiseSchedule("v", True, 0.3)
    x0, noise = torch.tensor([[2.0, -0.5]]), torch.tensor([[0.3, 1.5]])
    for t in (0, 7, 250, 399, 600, 999):
        point = (x0 * schedule.scale[t] + 1j * noise) * complex(
            schedule.alphas_cumprod[t].sqrt(), -(1 - schedule.alphas_cumprod[t]).sqrt()
        )
        torch.testing.assert_close(schedule.q_sample(x0, t, noise), point.real, check_dtype=False)
        torch.testing.assert_close(schedule.target(x0, t, noise), point.imag, check_dtype=False)


@pytest.mark.parametrize("schedule", DISTINCT, ids=str)
def test_one_timestep_for_all_is_one_for_each(schedule):
    x, output = torch.randn(2, 3, 4, 2, 5, 5)
    t = torch.full((3,), 321)
    for convert in (schedule.x0, schedule.eps):
        torch.testing.assert_close(convert(output, x, 321), convert(output, x, t))
    torch.testing.assert_close(schedule.q_sample(x, 321, output), schedule.q_sample(x, t, output))
    torch.testing.assert_close(schedule.target(x, 321, output), schedule.target(x, t, output))


def test_half_precision_is_computed_in_single():
    schedule = NoiseSchedule("v", True, 0.7)
    x, output = torch.randn(2, 1, 4, 1, 2, 2).half()
    torch.testing.assert_close(schedule.x0(output, x, 5), schedule.x0(output.float(), x.float(), 5))
    assert schedule.q_sample(x, torch.tensor([5]), output).dtype == torch.float32


def test_where_no_signal_is_left_a_noise_prediction_gives_the_mean_not_infinity():
    schedule = NoiseSchedule("eps", zero_snr=True)
    x, output = torch.randn(2, 1, 8)
    assert schedule.x0(output, x, 999).tolist() == [[0.0] * 8]
    assert schedule.x0(output, x, torch.tensor([999])).tolist() == [[0.0] * 8]
    assert schedule.x0(output, x, 998).isfinite().all()


@pytest.mark.parametrize("key", GOLDEN["timesteps"])
def test_timestep_lists_are_the_originals_where_those_are_valid(key):
    spacing, steps = key.split("/")
    expected = GOLDEN["timesteps"][key]
    actual = ddim_timesteps(int(steps), spacing)
    assert actual == expected if valid(expected) else len(actual) == int(steps) and valid(actual)


@pytest.mark.parametrize("spacing", ["uniform", "uniform_trailing"])
@pytest.mark.parametrize("start", [1000, 940, 997, 61, 2, 1])
def test_every_steps_value_gives_distinct_timesteps_below_the_start(spacing, start):
    for steps in range(1, 1001):
        actual = ddim_timesteps(steps, spacing, start)
        assert valid(actual, start), steps
        if steps > start:
            assert actual == list(range(start)), steps
            continue
        expected = reference_list(steps, spacing, start)
        if valid(expected, start):
            assert actual == expected, steps
        else:
            assert len(actual) == steps, steps
            at_its_end = (
                actual[-1] == start - 1 if spacing == "uniform_trailing" else actual[0] == min(1, start - steps)
            )
            assert at_its_end, steps
            assert np.ptp(np.diff(actual) if steps > 1 else [0]) <= 1, f"{steps} steps are spread unevenly"
        assert all(type(t) is int for t in actual)


def test_trailing_lists_end_at_the_start_step():
    assert ddim_timesteps(50, "uniform_trailing", 940)[-1] == 939
    assert {ddim_timesteps(steps, "uniform_trailing")[-1] for steps in range(1, 1001)} == {999}


@pytest.mark.parametrize("steps", [0, 1001, -5, 2.5, 50.0, math.nan, "50", None, True])
def test_impossible_steps_are_refused_with_the_value(steps):
    with pytest.raises(InputError, match=r"steps is .*whole number from 1 to 1000") as refusal:
        ddim_timesteps(steps, "uniform")
    assert repr(steps) in str(refusal.value)


def test_impossible_spacing_and_start_are_refused():
    with pytest.raises(InputError, match="spacing is 'quad'; give 'uniform'"):
        ddim_timesteps(50, "quad")
    for start in (0, 1001, math.nan):
        with pytest.raises(InputError, match="start is"):
            ddim_timesteps(50, "uniform", start)


@pytest.mark.parametrize(
    "arguments",
    [("x0",), ("v", True, 0), ("v", True, math.nan), ("v", True, -1), ("v", True, "0.7"), ("eps", False, 0.7, 600)],
)
def test_impossible_schedules_are_refused(arguments):
    with pytest.raises(InputError, match=r"(parameterization|base_scale|scale_length) is"):
        NoiseSchedule(*arguments)


def test_numpy_integers_are_integers():
    assert ddim_timesteps(np.int64(4), "uniform") == [1, 251, 501, 751]
