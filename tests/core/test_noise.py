"""Noise that frames share: how much of it, where a camera moves it, and what FreeInit keeps of a clip."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, WIDTH, Spy, picture
from torch import Tensor

from dynamicrafter_core.diffusion.noise import NoisePrior, read_noise, reinitialise
from dynamicrafter_core.diffusion.noise_path import EASINGS, NoisePath
from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.pipeline.pipeline import Pipeline


def draw(*shape: int, seed: int = 0) -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator), generator


def covariance(noise: Tensor) -> Tensor:
    """Between frames: t t."""
    rows = noise.transpose(0, 2).flatten(1)
    return rows @ rows.T / rows.shape[1]


def expected(kind: str, amount: float, frames: int) -> Tensor:
    i, j = torch.meshgrid(torch.arange(frames), torch.arange(frames), indexing="ij")
    ratio = amount**2 / (1 + amount**2)
    match kind:
        case "mixed":
            out = torch.full((frames, frames), ratio)
        case "progressive":
            out = ratio ** ((i - j).abs() / 2)
        case "residual":
            middle = frames // 2
            out = torch.where((i == middle) | (j == middle), amount**0.5, torch.tensor(amount))
        case _:
            out = torch.zeros(frames, frames)
    return out.fill_diagonal_(1.0)


@pytest.mark.parametrize(
    ("kind", "amount"), [("plain", 0.0), ("mixed", 0.5), ("mixed", 3.0), ("progressive", 2.0), ("residual", 0.3)]
)
def test_frames_share_what_the_formula_says(kind: Any, amount: float) -> None:
    plain, generator = draw(300, 4, 6, 8, 8)
    noise = NoisePrior(kind, None if kind == "plain" else amount).apply(plain, generator)
    torch.testing.assert_close(covariance(noise), expected(kind, amount, 6), rtol=0, atol=0.02)


def test_plain_noise_is_the_given_noise() -> None:
    plain, generator = draw(1, 4, 6, 8, 8)
    state = generator.get_state()
    assert NoisePrior().apply(plain, generator) is plain
    assert torch.equal(generator.get_state(), state), "and draws nothing"


def test_noise_that_shares_everything_is_one_frame() -> None:
    plain, generator = draw(1, 4, 6, 8, 8)
    noise = NoisePrior("residual", 1.0).apply(plain, generator)
    assert torch.equal(noise, plain[:, :, :1].expand_as(noise))


@pytest.mark.parametrize(
    "path",
    [
        NoisePath(pan_x=0.4, pan_y=-0.3),
        NoisePath(zoom=1.7),
        NoisePath(zoom=0.6, turn=40),
        NoisePath(pan_x=-0.2, zoom=1.2, turn=-15, easing="ease-in-out"),
    ],
    ids=str,
)
def test_a_moved_frame_is_white_noise_of_variance_one(path: NoisePath) -> None:
    plain, generator = draw(400, 4, 3, 8, 8)
    last = NoisePrior("residual", 1.0, path).apply(plain, generator)[:, :, -1].flatten(0, 1)  # rows h w
    assert float(last.mean()) == pytest.approx(0, abs=0.02)
    assert float(last.var()) == pytest.approx(1, abs=0.02)
    assert float((last**2).mean(0).sub(1).abs().max()) < 0.15, "everywhere, also where it came in from outside"
    for neighbour in (last[:, 1:] * last[:, :-1], last[:, :, 1:] * last[:, :, :-1]):
        assert abs(float(neighbour.mean())) < 0.12, "not smoothed"


@pytest.mark.parametrize(
    ("path", "move"),
    [
        (NoisePath(pan_x=3 / 16), lambda first: (first[..., 3:], (slice(None), slice(None, -3)))),
        (NoisePath(pan_x=-2 / 16), lambda first: (first[..., :-2], (slice(None), slice(2, None)))),
        (NoisePath(pan_y=5 / 16), lambda first: (first[..., 5:, :], (slice(None, -5), slice(None)))),
        (NoisePath(turn=90), lambda first: (first.rot90(-1, (-2, -1)), (slice(None), slice(None)))),
    ],
    ids=["right", "left", "down", "clockwise"],
)
def test_a_path_moves_what_is_seen_by_its_pixels(path: NoisePath, move: Callable) -> None:
    plain, generator = draw(1, 4, 5, 16, 16)
    noise = NoisePrior("residual", 1.0, path).apply(plain, generator)
    torch.testing.assert_close(noise[:, :, 0], plain[:, :, 0])
    wanted, (rows, columns) = move(noise[:, :, 0])
    torch.testing.assert_close(noise[:, :, -1][..., rows, columns], wanted)


def test_a_zoom_takes_the_corners_out_from_the_middle() -> None:
    """Twice as large, the last frame's corner shows what was halfway to it; correlation of averages, for values are split."""
    plain, generator = draw(2000, 1, 2, 8, 8)
    noise = NoisePrior("residual", 1.0, NoisePath(zoom=2.0)).apply(plain, generator)
    first, last = noise[:, 0].unbind(1)
    corner = last[:, 0:2, 0:2].mean((1, 2)) / last[:, 0:2, 0:2].mean((1, 2)).std()
    related = torch.einsum("n,nhw->hw", corner, first) / len(first)
    assert related.argmax() == 2 * 8 + 2 and related.max() > 0.4


def test_what_is_shared_moves_and_the_rest_does_not() -> None:
    plain, generator = draw(300, 4, 5, 8, 8)
    noise = NoisePrior("mixed", 2.0, NoisePath(pan_x=2 / 8)).apply(plain, generator)
    along = (noise[:, :, 0, :, 2:] * noise[:, :, -1, :, :-2]).mean()
    standing = (noise[:, :, 0] * noise[:, :, -1]).mean()
    assert float(along) == pytest.approx(0.8, abs=0.02) and float(standing) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("easing", EASINGS)
def test_a_camera_stands_before_and_after_its_path(easing: Any) -> None:
    shares = NoisePath(pan_x=1, start=0.2, end=0.8, easing=easing).progress(11)
    assert shares[:3] == [0, 0, 0] and shares[8:] == [1, 1, 1]
    assert shares == sorted(shares)
    middle = {"linear": 0.5, "ease-in": 0.25, "ease-out": 0.75, "ease-in-out": 0.5}[easing]
    assert shares[5] == pytest.approx(middle)


def test_noise_and_camera_are_read_from_texts() -> None:
    assert read_noise("") == NoisePrior() == read_noise("plain")
    assert read_noise("mixed 2") == NoisePrior("mixed", 2.0)
    path = NoisePath(0.25, -0.1, 1.2, 10, 0.2, 0.8, "ease-out")
    text = "pan 0.25 -0.1, zoom 1.2, turn 10, from 0.2, to 0.8, ease-out"
    assert read_noise("progressive 3", text) == NoisePrior("progressive", 3.0, path)
    assert read_noise("", "zoom 2") == NoisePrior("residual", 1.0, NoisePath(zoom=2)), "a path needs something to move"


@pytest.mark.parametrize(
    ("noise", "camera", "message"),
    [
        ("pink", "", "noise is 'pink'; give one of plain, mixed"),
        ("mixed much", "", "give a kind and an amount"),
        ("mixed 1 2", "", "give a kind and an amount"),
        ("mixed -1", "", "alpha of mixed noise is -1.0"),
        ("residual 2", "", "the share of residual noise is 2.0"),
        ("plain 1", "", "its frames share nothing"),
        ("plain", "zoom 2", "choose residual, mixed or progressive"),
        ("", "pan 1", "the camera path holds 'pan 1'"),
        ("", "tilt 1", "the camera path holds 'tilt 1'"),
        ("", "zoom 9", "the camera's zoom is 9.0"),
        ("", "from 0.5, to 0.5", "the end must come later"),
    ],
)
def test_bad_noise_is_refused(noise: str, camera: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_noise(noise, camera)


def test_freeinit_keeps_low_frequencies_of_the_clip_and_takes_high_ones_of_fresh_noise() -> None:
    clip, generator = draw(1, 2, 8, 6, 10)
    noise, fresh = (torch.randn(clip.shape, generator=generator) for _ in range(2))
    schedule = NoiseSchedule("eps")
    made = reinitialise(clip, noise, fresh, schedule, 1000, 0.25)

    ac = schedule.alphas_cumprod[999].item()
    noised = (ac**0.5 * clip + (1 - ac) ** 0.5 * noise).double().numpy()
    t, h, w = np.meshgrid(*(np.fft.fftfreq(side) for side in (8, 6, 10)), indexing="ij")
    gauss = np.exp(-((2 * t) ** 2 + (2 * h) ** 2 + (2 * w) ** 2) / (2 * 0.25**2))
    both = np.fft.fftn(noised, axes=(2, 3, 4)) * gauss
    both += np.fft.fftn(fresh.double().numpy(), axes=(2, 3, 4)) * (1 - gauss)
    np.testing.assert_allclose(made.numpy(), np.fft.ifftn(both, axes=(2, 3, 4)).real, atol=1e-5)


def test_a_run_begins_with_the_same_plain_noise_as_ever(model_of: Callable[[str], Path], spy: Spy) -> None:
    """The posterior of the image's latent is drawn first."""
    Pipeline(model_of(ANIMATE)).animate(picture(), steps=1, seed=5)
    generator = torch.Generator().manual_seed(5)
    size = (HEIGHT // 2, WIDTH // 2)
    torch.randn(1, 4, *size, generator=generator)
    assert torch.equal(spy.first["x"][:, :4], torch.randn(1, 4, FRAMES, *size, generator=generator))


def test_a_run_begins_with_the_asked_noise_and_says_so(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    shift = 3
    clip = pipeline.animate(picture(), steps=1, seed=5, noise_path=f"pan {shift / (WIDTH // 2)} 0")
    x = spy.first["x"][:, :4]
    torch.testing.assert_close(x[:, :, -1, :, :-shift], x[:, :, 0, :, shift:])
    assert clip.settings["noise"]["kind"] == "residual" and clip.settings["noise"]["path"]["pan_x"] == 0.25


@pytest.mark.parametrize("variant", [ANIMATE, "t2v_turbo_vc2"])
def test_frames_share_the_fresh_noise_of_every_step_too(
    model_of: Callable[[str], Path], spy: Spy, variant: str
) -> None:
    given = (picture(),) if variant == ANIMATE else ()
    Pipeline(model_of(variant))(*given, prompt="a cat", steps=3, noise="residual 1")
    assert len(spy.calls) == 3
    for call in spy.calls:
        x = call["x"][:, :4]
        torch.testing.assert_close(x, x[:, :, :1].expand_as(x))


def test_freeinit_makes_the_clip_again_from_its_low_frequencies(
    model_of: Callable[[str], Path], spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, told = [], []
    monkeypatch.setattr(
        "dynamicrafter_core.pipeline.pipeline.decode_clip",
        lambda coder, latents, *_: made.append(latents) or torch.zeros(FRAMES, HEIGHT, WIDTH, 3),
    )
    pipeline = Pipeline(model_of(ANIMATE))
    spy.answer = 1.0
    options: dict[str, Any] = {"steps": 2, "start_step": 940, "eta": 0.0}
    pipeline.animate(picture(), **options)
    pipeline.animate(picture(), freeinit=2, on_progress=lambda *step: told.append(step), **options)
    assert [call["t"].item() for call in spy.calls] == [939, 469] * 4
    assert [step[1:] for step in told if step[0] == "denoise"][-6:] == [(count, 6) for count in range(1, 7)]
    first, again = (spy.calls[row]["x"][:, :4] for row in (2, 4))
    mean = (2, 3, 4)  # the frequency that is kept whole
    schedule = pipeline.family.schedule()
    ac, scale = schedule.alphas_cumprod[939].item(), schedule.scale[939].item()
    wanted = ac**0.5 * scale * made[0].mean(mean) + (1 - ac) ** 0.5 * first.mean(mean)
    torch.testing.assert_close(again.mean(mean), wanted, rtol=1e-4, atol=1e-5)
    assert float((again - first).std()) > 0.5, "high frequencies are new"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeinit": 1}, "give a start step below 1000"),
        ({"freeinit": 1, "start_step": 940, "strength": 0.5}, "makes a whole clip again"),
        ({"freeinit": 11, "start_step": 940}, "freeinit is 11"),
        ({"noise": 2}, "noise is a int; give text"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    model_of: Callable[[str], Path], spy: Spy, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Pipeline(model_of(ANIMATE)).animate(picture(), **options)
    assert not spy.calls


def test_an_alpha_whose_square_no_number_holds_is_refused() -> None:
    with pytest.raises(InputError, match="alpha of mixed noise is 1e.308; give a number from 0 to 1e.06"):
        read_noise("mixed 1e308")
