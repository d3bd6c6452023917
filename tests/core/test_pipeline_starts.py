"""Where a run starts from and what it keeps: start step, analytic noise, strength and masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, WIDTH, Spy, picture
from PIL import Image

from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.slow


def test_a_start_step_leaves_out_the_noisiest_timesteps(model_of: Callable[[str], Path], spy: Spy) -> None:
    Pipeline(model_of(ANIMATE)).animate(picture(), steps=4, start_step=940)
    assert [call["t"].item() for call in spy.calls] == [939, 704, 469, 234]


def test_analytic_noise_has_the_files_mean_and_spread(
    model_of: Callable[[str], Path], spy: Spy, tmp_path: Path
) -> None:
    expectation = torch.full((1, 4, FRAMES, HEIGHT // 2, WIDTH // 2), 5.0)
    torch.save({"Expectation_X0": expectation, "Tr_Cov_d": torch.tensor(0.25)}, tmp_path / "noise.pt")
    options: dict[str, Any] = {"steps": 2, "start_step": 940}
    Pipeline(model_of(ANIMATE)).animate(picture(), **options)
    pipeline = Pipeline(model_of(ANIMATE), initial_noise=tmp_path / "noise.pt")
    pipeline.animate(picture(), **options)
    plain, analytic = spy.calls[0]["x"][:, :4], spy.calls[2]["x"][:, :4]
    ac = pipeline.family.schedule().alphas_cumprod[939].item()
    assert torch.allclose(analytic, ac**0.5 * 5 + (1 - ac + ac * 0.25) ** 0.5 * plain, atol=1e-5)


def test_a_model_meant_for_analytic_noise_says_so(model_of: Callable[[str], Path], spy: Spy) -> None:
    with pytest.warns(UserWarning, match="Analytic-Init"):
        Pipeline(model_of("videocrafter1_i2v_512_cil")).animate(picture(), steps=1)


def test_a_file_without_initial_noise_is_refused(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="Expectation_X0"):
        Pipeline(model_of(ANIMATE), initial_noise=model_of(ANIMATE))


def test_kept_frames_stay_and_others_are_made(model_of: Callable[[str], Path]) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    kept = pipeline.animate(picture(), steps=1, strength=0.0).frames  # the still image through the autoencoder
    assert all(torch.equal(frame, kept[0]) for frame in kept)
    mask = [1.0] * 4 + [0.0] * 12
    clip = pipeline.animate(picture(), "a cat", steps=2, mask=mask).frames
    assert torch.equal(clip[:4], kept[:4])
    assert not any(torch.equal(frame, kept[0]) for frame in clip[4:])


def test_a_mask_in_space_keeps_its_places_of_the_original(
    model_of: Callable[[str], Path], spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(
        "dynamicrafter_core.pipeline.pipeline.decode_clip",
        lambda coder, latents, *_: made.append(latents[0]) or torch.zeros(FRAMES, HEIGHT, WIDTH, 3),
    )
    video = torch.from_numpy(np.stack([picture(index, WIDTH, HEIGHT) for index in range(FRAMES)]))
    left = np.zeros((HEIGHT, WIDTH), np.float32)
    left[:, : WIDTH // 2] = 1
    pipeline = Pipeline(model_of(ANIMATE))
    for mask in (np.ones((HEIGHT, WIDTH)), left):
        pipeline.animate(picture(), steps=3, original=video, mask=mask)
    kept, half = made
    middle = WIDTH // 2 // 2  # of the latents
    assert not torch.equal(kept[:, 0], kept[:, 1])  # every frame its own
    assert torch.equal(half[..., :middle], kept[..., :middle])
    assert (half[..., middle:] != kept[..., middle:]).all()


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_strength_is_the_share_of_the_steps_that_are_taken(
    model_of: Callable[[str], Path], spy: Spy, strength: float
) -> None:
    Pipeline(model_of(ANIMATE)).animate(picture(), steps=10, strength=strength)
    assert len(spy.calls) == 10 * strength


def test_the_command_line_makes_a_clip_over(model_of: Callable[[str], Path], tmp_path: Path) -> None:
    given, first, out = tmp_path / "given", tmp_path / "first.png", tmp_path / "out"
    given.mkdir()
    pictures = [picture(seed, WIDTH, HEIGHT) for seed in range(4)]
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(given / f"{number}.png")
    Image.fromarray(pictures[0]).save(first)
    asked = [
        "animate",
        str(first),
        "a cat",
        "-m",
        str(model_of(ANIMATE)),
        "--original",
        str(given),
        "--strength",
        "0.5",
    ]
    assert main([*asked, "--frames", "4", "--steps", "4", "--seed", "5", "-o", str(out), "--quiet"]) == 0
    options: dict[str, Any] = {"strength": 0.5, "frames": 4, "steps": 4, "seed": 5}
    expected = Pipeline(model_of(ANIMATE)).animate(pictures[0], "a cat", original=pictures, **options).frames
    shown = np.stack([np.asarray(Image.open(path)) for path in sorted(out.glob("*.png"))])
    assert np.array_equal(shown, expected.numpy())
