"""Where a run starts and what it keeps: strength, masks, CIL's start step and its analytic noise."""

import math

import pytest
import torch
from golden import golden_input

from dynamicrafter_core.diffusion.sampling import analytic_noise, sample_ddim
from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.errors import InputError

SHAPE = [1, 4, 2, 4, 4]
V7 = NoiseSchedule("v", zero_snr=True, base_scale=0.7)
V3 = NoiseSchedule("v", zero_snr=True, base_scale=0.3)
EPS7 = NoiseSchedule("eps", base_scale=0.7)
SCHEDULES = [V7, V3, NoiseSchedule("eps"), EPS7]


def network(x, t):
    return 0.5 * x + 0.02 + 0.1 * torch.sin(x + t.view(-1, *[1] * (x.ndim - 1)) / 1000 + 0.3)


def golden_noise(k, shape):
    return golden_input(f"noise{k}", shape)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_strength_starts_from_the_noised_original_and_runs_its_share_of_the_steps(schedule):
    x_T, original = golden_input("x_T", SHAPE), golden_input("x0", SHAPE)
    seen = []

    def predict(x, t):
        seen.append((t.item(), x))
        return network(x, t)

    sample_ddim(predict, x_T, schedule, 20, "uniform_trailing", strength=0.3, original=original)
    assert [t for t, _ in seen] == [299, 249, 199, 149, 99, 49]
    ac, scale = schedule.alphas_cumprod[299].item(), schedule.scale[299].item()
    torch.testing.assert_close(seen[0][1], math.sqrt(ac) * scale * original + math.sqrt(1 - ac) * x_T)


def test_strength_ranges_from_the_original_to_all_new():
    x_T, original = golden_input("x_T", SHAPE), golden_input("x0", SHAPE)

    def run(**options):
        return sample_ddim(network, x_T, V7, 10, "uniform_trailing", noise=golden_noise, **options)

    assert torch.equal(run(strength=0.0, original=original), original)
    assert torch.equal(run(strength=1.0, original=original), run())
    counted = []
    run(strength=0.001, original=original, on_step=lambda *step: counted.append(step))
    assert len(counted) == 1, "a little strength is one step, not none"


@pytest.mark.parametrize("clean_mask", [False, True])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_what_the_mask_marks_is_kept_and_the_rest_is_new(clean_mask, strength):
    """In time (frame 0), in space (the left half) and both at once."""
    x_T, original = golden_input("x_T", SHAPE), golden_input("x0", SHAPE)
    in_time = torch.tensor([1.0, 0.0]).view(1, 1, 2, 1, 1)
    in_space = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 1, 4)
    for mask in (in_time, in_space, in_time * in_space, (in_time * in_space).bool()):
        out = sample_ddim(
            network,
            x_T,
            V7,
            7,
            "uniform_trailing",
            original=original,
            mask=mask,
            clean_mask=clean_mask,
            strength=strength,
        )
        kept = mask.bool().expand(SHAPE)
        assert torch.equal(out[kept], original[kept])
        assert (out - original)[~kept].abs().min() > 0


@pytest.mark.parametrize("schedule", [V3, EPS7], ids=str)
def test_the_kept_part_is_renoised_before_every_step(schedule):
    """Its place in x holds the original at the timestep's scale, with that timestep's amount of noise."""
    original = golden_input("x0", [1, 4, 16, 16, 16])
    for t, x in masked_steps(schedule, original, clean_mask=False):
        ac, scale = schedule.alphas_cumprod[t].item(), schedule.scale[t].item()
        noise = x - math.sqrt(ac) * scale * original
        assert noise.std().item() == pytest.approx(math.sqrt(1 - ac), rel=0.03)
        correlation = torch.corrcoef(torch.stack([noise.flatten(), original.flatten()]))[0, 1].item()
        assert abs(correlation) < 0.04


def test_a_clean_mask_puts_the_original_in_as_it_is():
    original = golden_input("x0", SHAPE)
    steps = masked_steps(V3, original, clean_mask=True)
    assert len(steps) == 4 and all(torch.equal(x, original) for _, x in steps)


def masked_steps(schedule, original, clean_mask):
    """[(t, x as the network sees it)] of a run whose mask keeps everything."""
    seen = []

    def predict(x, t):
        seen.append((t.item(), x))
        return torch.zeros_like(x)

    generator = torch.Generator().manual_seed(3)
    options = {"original": original, "mask": torch.ones(1), "clean_mask": clean_mask, "generator": generator}
    sample_ddim(predict, torch.zeros_like(original), schedule, 4, "uniform_trailing", **options)
    return seen


def test_a_mask_that_keeps_nothing_changes_nothing():
    x_T, original = golden_input("x_T", SHAPE), golden_input("x0", SHAPE)
    plain, masked = (
        sample_ddim(network, x_T, V7, 5, "uniform_trailing", noise=golden_noise, **options)
        for options in ({}, {"original": original, "mask": torch.zeros(1)})
    )
    assert torch.equal(plain, masked)


def test_a_start_step_leaves_the_noisiest_timesteps_out():
    times = []
    sample_ddim(
        lambda x, t: times.append(t.item()) or x, torch.randn(1, 4), V7, 10, "uniform_trailing", eta=0.0, start=940
    )
    assert times == [939, 845, 751, 657, 563, 469, 375, 281, 187, 93]


def test_analytic_noise_has_the_mean_and_spread_of_noised_data():
    """Data with a known mean and variance, noised to the start step, against the formula for them."""
    generator = torch.Generator().manual_seed(0)
    mean = golden_input("mean", [1, 2, 1, 1, 1])
    data = mean + 0.6 * torch.randn(4000, 2, 1, 2, 2, generator=generator)
    noise = torch.randn(data.shape, generator=generator)
    plain = NoiseSchedule("v", zero_snr=True)
    noised = plain.q_sample(data, 799, torch.randn(data.shape, generator=generator))
    drawn = analytic_noise(noise, plain, 800, mean, 0.36)
    torch.testing.assert_close(drawn.mean((0, 3, 4)), noised.mean((0, 3, 4)), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.std((0, 3, 4)), noised.std((0, 3, 4)), rtol=0.03, atol=0)


def test_analytic_noise_at_zero_signal_is_the_noise_itself():
    noise = golden_input("noise", SHAPE)
    assert torch.equal(analytic_noise(noise, V7, 1000, torch.ones(SHAPE), 0.5), noise)


@pytest.mark.parametrize(
    ("start", "mean", "variance", "message"),
    [
        (0, torch.zeros(1), 1.0, "start is 0"),
        (940, torch.zeros(3), 1.0, "expectation has shape"),
        (940, torch.full((1,), math.inf), 1.0, "expectation holds NaN or infinity"),
        (940, torch.zeros(1), -1.0, "trace_covariance is -1.0; give a finite number of 0 or more"),
    ],
)
def test_bad_analytic_noise_is_refused(start, mean, variance, message):
    with pytest.raises(InputError, match=message):
        analytic_noise(torch.zeros(SHAPE), V7, start, mean, variance)
