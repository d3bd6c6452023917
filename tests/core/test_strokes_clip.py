"""Clips led by strokes and held by a brush: what reaches the network, and what stands still."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, INTERPOLATE, WIDTH, Spy, picture
from PIL import Image

from dynamicrafter_core.cli.main import main
from dynamicrafter_core.diffusion.sampling import sample_ddim
from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.pipeline.pipeline import Pipeline

STROKE = "20,20 -> 40,20"  # of a picture of 60x40 pixels, which a frame of 24x16 shows whole


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    monkeypatch.setattr(
        "dynamicrafter_core.pipeline.pipeline.decode_clip",
        lambda coder, z, *_: made.append(z[0]) or torch.zeros(FRAMES, HEIGHT, WIDTH, 3),
    )
    return made


def half() -> np.ndarray:
    brush = np.zeros((40, 60), np.float32)
    brush[:, :30] = 1
    return brush


def test_a_run_follows_the_led_frames_up_to_its_share_and_sees_them_as_detail(
    model_of: Callable[[str], Path], spy: Spy
) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    pipeline.animate(picture(), steps=4, seed=5)
    pipeline.animate(picture(), steps=4, seed=5, strokes=f"{STROKE}; until 0.5; noise 0")
    before, after = spy.calls[:4], spy.calls[4:]
    assert torch.equal(before[0]["x"][:, 4:, 1:], before[0]["x"][:, 4:, :1].expand(-1, -1, FRAMES - 1, -1, -1))
    detail = after[0]["x"][:, 4:]
    assert torch.equal(detail[:, :, 0], before[0]["x"][:, 4:, 0])
    assert not torch.equal(detail[:, :, -1], detail[:, :, 1])
    assert all(torch.equal(call["x"][:, 4:], detail) for call in after)
    ac = pipeline.family.schedule().alphas_cumprod
    led = [call["t"].item() for call in after]
    assert led == [999, 749, 499, 249] and ac[999] == 0
    # Where nothing is led the first step is the same; far from the stroke it stays free in the second.
    assert not torch.equal(after[1]["x"][:, :4], before[1]["x"][:, :4])
    assert torch.equal(after[0]["x"][:, :4, :, 0, -1], before[0]["x"][:, :4, :, 0, -1])


def test_what_is_not_brushed_stands_still(model_of: Callable[[str], Path], latents: list[Any]) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    for options in ({"brush": half()}, {"brush": half(), "strokes": "10,20 -> 15,20"}):
        pipeline.animate(picture(), "a cat", steps=2, **options)
        z = latents.pop()
        right = z[..., WIDTH // 2 // 2 + 2 :]
        assert torch.equal(right, right[:, :1].expand_as(right))
        left = z[..., : WIDTH // 2 // 2]
        assert not torch.isclose(left[:, 0], left[:, -1]).any()


def test_nothing_drawn_changes_nothing(model_of: Callable[[str], Path]) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    plain = pipeline.animate(picture(), "a cat", steps=2, seed=3)
    drawn = pipeline.animate(picture(), "a cat", steps=2, seed=3, strokes="  ")
    assert torch.equal(plain.frames, drawn.frames)
    led = pipeline.animate(picture(), "a cat", steps=2, seed=3, strokes=STROKE)
    assert not torch.equal(plain.frames, led.frames)
    assert led.settings["strokes"]["lines"] == [[[20, 20], [40, 20]]]


def test_masks_and_flows_lead_as_a_stroke_does(model_of: Callable[[str], Path], spy: Spy, tmp_path: Path) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    before, after = (np.zeros((40, 60), np.float32) for _ in range(2))
    before[10:30, 10:30], after[10:30, 30:50] = 1, 1
    flow = np.zeros((1, 40, 60, 2), np.float32)
    flow[..., 0] = 20
    np.save(tmp_path / "flow.npy", flow)
    ways: list[dict[str, Any]] = [
        {"strokes": STROKE, "brush": before},
        {"brush": before, "brush_to": after},
        {"brush": before, "flow": flow},
        {"brush": before, "flow": tmp_path / "flow.npy"},
    ]
    for way in ways:
        pipeline.animate(picture(), steps=1, **way)
    seen = [call["x"][:, 4:] for call in spy.calls]
    for detail in seen[1:]:
        torch.testing.assert_close(detail, seen[0], atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strokes": "900,20 -> 40,20"}, "starts outside the picture, which is 60x40 pixels"),
        ({"strokes": 3}, "strokes is a int; give text"),
        ({"strokes": STROKE, "lock": 0}, "strokes and lock cannot be combined"),
        ({"flow": "gone.npy"}, "flow gone.npy does not exist"),
        ({"flow": np.zeros((3, 4, 4, 2))}, "flow has shape"),
        ({"brush": torch.zeros(2, 4, 4)}, "brush has shape"),
        ({"brush": "gone.png"}, "gone.png"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    model_of: Callable[[str], Path], spy: Spy, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Pipeline(model_of(ANIMATE)).animate(picture(), **options)
    assert not spy.calls


def test_other_modes_and_distilled_models_refuse_strokes(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="only a clip that animates one image takes strokes"):
        Pipeline(model_of(INTERPOLATE)).interpolate(picture(), picture(1), strokes=STROKE)
    with pytest.raises(InputError, match="strokes is given, but .* is distilled"):
        Pipeline(model_of("t2v_turbo_vc2")).generate("a cat", strokes=STROKE)


def test_the_command_line_moves_along_strokes(
    model_of: Callable[[str], Path], spy: Spy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture()).save("photo.png")
    Image.fromarray((255 * half()).astype(np.uint8)).save("brush.png")
    options = ["--strokes", f"{STROKE}; noise 0", "--brush", "brush.png", "--steps", "1", "--quiet", "-o", "clip.png"]
    assert main(["animate", "photo.png", "", "-m", str(model_of(ANIMATE)), *options]) == 0
    Pipeline(model_of(ANIMATE)).animate(picture(), steps=1, strokes=f"{STROKE}; noise 0", brush=half())
    said, called = spy.calls
    assert torch.equal(said["x"], called["x"])


def test_a_lead_ends_at_its_share_of_the_run_and_the_result_is_free() -> None:
    schedule, seen = NoiseSchedule("eps"), []

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return torch.zeros_like(x)

    x, original = torch.zeros(1, 4, 3, 8, 8), torch.full((1, 4, 3, 8, 8), 7.0)
    lead = torch.zeros(1, 1, 3, 8, 8)
    lead[..., :4] = 1
    made = sample_ddim(
        predict,
        x,
        schedule,
        4,
        "uniform_trailing",
        0.0,
        original=original,
        lead=lead,
        lead_until=0.5,
        generator=torch.Generator().manual_seed(0),
    )
    ac = schedule.alphas_cumprod.float()
    for place, t in ((0, 999), (1, 749)):
        torch.testing.assert_close(seen[place][..., :4].mean(), ac[t] ** 0.5 * 7, atol=0.25, rtol=0)
    for place, free in ((1, False), (2, True), (3, True)):  # a free step only scales what was there
        ratio = seen[place][..., :4] / seen[place - 1][..., :4]
        assert torch.allclose(ratio, ratio.flatten()[0].expand_as(ratio), rtol=1e-3) is free
    assert (made[..., 4:] == 0).all(), "what is not led is as without a lead"
    with pytest.raises(InputError, match="original is missing"):
        sample_ddim(predict, x, schedule, 4, "uniform_trailing", lead=lead)
    with pytest.raises(InputError, match="lead holds values"):
        sample_ddim(predict, x, schedule, 4, "uniform_trailing", lead=2 * lead, original=original)
