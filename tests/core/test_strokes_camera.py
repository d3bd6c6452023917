"""A camera in place of strokes: the whole picture moves along its path, with its noise, and leads the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, WIDTH, Spy, picture
from torch import Tensor
from torch.nn import functional as F

from dynamicrafter_core.diffusion.noise_path import NoisePath
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.images import fit_image, read_image
from dynamicrafter_core.pipeline.encoding import encode_original
from dynamicrafter_core.pipeline.pipeline import Pipeline
from dynamicrafter_core.strokes.animation import animate_view
from dynamicrafter_core.strokes.asked import read_asked
from dynamicrafter_core.strokes.drawing import Strokes
from dynamicrafter_core.strokes.flow import Frame
from dynamicrafter_core.strokes.lead import Lead, make_lead

FRAME = Frame((64, 64), 64, 64)


def scene(seed: int = 0) -> Tensor:
    small = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return F.interpolate(small, (64, 64), mode="bilinear")[0]


def lead(text: str, frames: int = 5, brush: Tensor | None = None) -> Lead:
    return make_lead(scene(), FRAME, frames, 4, Strokes.read(text), brush)


def test_a_text_holds_a_camera_and_how_it_leads() -> None:
    read = Strokes.read("camera pan 0.25 -0.1, zoom 1.2, from 0.2; until 0.4\nnoise 1")
    assert read.camera == NoisePath(0.25, -0.1, 1.2, start=0.2) and (read.until, read.noise) == (0.4, 1)
    assert Strokes.read("camera zoom 2; ease-in").view.easing == "ease-in"
    assert Strokes.read("camera zoom 2, ease-out; ease-in").view.easing == "ease-out"
    assert Strokes.read("camera zoom 1") == Strokes.read("camera") == Strokes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strokes": "camera tilt 3"}, "the camera path holds 'tilt 3'"),
        ({"strokes": "camera zoom 9"}, "the camera's zoom is 9"),
        ({"strokes": "camera zoom 2; 1,2 -> 3,4"}, "strokes and a camera both say where things go"),
        ({"strokes": "camera zoom 2", "flow": [[1]]}, "a camera and flow both say where things go"),
        ({"strokes": "camera zoom 2", "mask": "a.png"}, "strokes and mask cannot be combined"),
        ({"strokes": "camera from 0.5"}, "a camera such as 'camera pan 0.25 0'"),
        ({"strokes": "cameras zoom 2"}, "strokes hold 'cameras zoom 2'.*'camera pan 0.25 0'"),
    ],
)
def test_bad_cameras_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_asked("animate", given)
    with pytest.raises(InputError, match="only a clip that animates one image takes strokes"):
        read_asked("loop", {"strokes": "camera zoom 2"})


def test_a_pan_by_whole_pixels_is_exact_and_the_picture_is_mirrored_beyond_its_edge() -> None:
    views, known = animate_view(scene(), NoisePath(pan_x=0.25), 5)
    assert torch.equal(views[0], scene()) and (known[0] == 1).all()
    torch.testing.assert_close(views[4][:, :, :48], scene()[:, :, 16:], atol=1e-4, rtol=0)
    torch.testing.assert_close(views[4][:, :, 48:], scene()[:, :, 48:].flip(2), atol=1e-4, rtol=0)
    assert (known[4][:, :48] == 1).all() and (known[4][:, 48:] == 0).all()
    torch.testing.assert_close(views[2][:, :, :56], scene()[:, :, 8:], atol=1e-4, rtol=0)
    far, reached = animate_view(scene(), NoisePath(2, 2, 0.25, 200), 3)
    assert far.isfinite().all() and far.abs().max() <= 1 and (reached[2] == 0).any()


def test_a_zoom_and_a_turn_are_about_the_middle() -> None:
    larger, known = animate_view(scene(), NoisePath(zoom=2), 2)
    middle = F.interpolate(scene()[None, :, 16:48, 16:48], (64, 64), mode="bilinear")[0]
    assert float((larger[1] - middle).abs().mean()) < 0.01 and known.all()
    turned, _ = animate_view(scene(), NoisePath(turn=90), 2)
    torch.testing.assert_close(turned[1], scene().rot90(-1, (1, 2)), atol=1e-4, rtol=0)


def test_a_camera_that_begins_late_shows_the_picture_itself_until_then() -> None:
    views, _ = animate_view(scene(), NoisePath(pan_y=0.5, start=0.5), 5)
    assert all(torch.equal(view, scene()) for view in views[:3]) and not torch.equal(views[3], scene())


@pytest.mark.parametrize("path", [NoisePath(0.3, -0.2), NoisePath(zoom=1.5), NoisePath(0.1, 0.2, 0.8, 30)])
def test_the_flow_of_a_camera_leads_to_where_it_sees_a_pixel(path: NoisePath) -> None:
    flow, looks = path.flow(3, 48, 64), path.looks(3, 48, 64)
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    assert (flow[0].abs() < 1e-4).all()
    for row, column in ((24, 32), (20, 40)):
        for frame in (1, 2):
            seen_y, seen_x = looks[frame][:, row, column]
            # What is seen there has come from `seen`: at the pixel next to it the flow leads back.
            at = flow[frame][:, int(seen_y), int(seen_x)] + torch.stack([x, y])[:, int(seen_y), int(seen_x)]
            torch.testing.assert_close(at, torch.tensor([column + 0.5, row + 0.5]), atol=1.6, rtol=0)


def test_a_camera_leads_where_the_picture_reaches_and_holds_nothing() -> None:
    made = lead("camera pan 0.25 0; until 0.3")
    assert made.weight is not None and made.keep is None and made.until == 0.3
    assert (made.weight[0] == 1).all() and (made.weight[4, :, :12] == 1).all() and (made.weight[4, :, 12:] == 0).all()


def test_its_noise_moves_along_and_is_white() -> None:
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(64, 4, 5, 16, 16, generator=generator)
    for text in ("camera pan 0.25 0; noise 1", "camera zoom 1.5, turn 20; noise 1"):
        carried = lead(text).noise
        assert carried is not None
        noise = carried.apply(plain, generator)
        assert torch.equal(noise[:, :, 0], plain[:, :, 0])
        assert float(noise.var()) == pytest.approx(1, abs=0.03)
        if "pan" in text:
            torch.testing.assert_close(noise[:, :, 4, :, :12], plain[:, :, 0, :, 4:], atol=1e-4, rtol=0)
    assert lead("camera zoom 2; noise 0").noise is None


def test_before_a_camera_a_brush_moves_alone() -> None:
    brush = torch.zeros(64, 64)
    brush[24:40, 24:40] = 1
    made = lead("camera pan 0.25 0", brush=brush)
    torch.testing.assert_close(made.frames[4][:, 24:40, 8:24], scene()[:, 24:40, 24:40])
    torch.testing.assert_close(made.frames[4][:, :20], scene()[:, :20])
    assert made.keep is not None and made.keep[0, 0] == 1 and made.keep[8, 8] == 0


def test_a_run_sees_the_moved_picture_as_detail_and_a_camera_that_stands_changes_nothing(
    model_of: Callable[[str], Path], spy: Spy
) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    options: dict[str, Any] = {"steps": 2, "seed": 5}
    plain = pipeline.animate(picture(), **options)
    still = pipeline.animate(picture(), strokes="camera zoom 1, turn 0", **options)
    assert torch.equal(plain.frames, still.frames)
    spy.calls.clear()
    moved = pipeline.animate(picture(), strokes="camera pan 0.5 0; noise 0", **options)
    detail = spy.calls[0]["x"][:, 4:]
    assert not torch.equal(plain.frames, moved.frames) and moved.settings["strokes"]["camera"]["pan_x"] == 0.5
    image = fit_image(read_image(picture()), WIDTH, HEIGHT, "crop")
    views, _ = animate_view(image, NoisePath(0.5), FRAMES)
    torch.testing.assert_close(detail[:, :, 1:], encode_original(pipeline.parts, views)[:, :, 1:])
    assert not torch.isclose(detail[:, :, 1], detail[:, :, -1]).all()


def test_the_command_line_takes_a_camera(model_of: Callable[[str], Path], spy: Spy, tmp_path: Path) -> None:
    from PIL import Image

    from dynamicrafter_core.cli.main import main

    Image.fromarray(np.asarray(picture())).save(tmp_path / "photo.png")
    asked = "camera pan 0.25 0, ease-in; until 0.4"
    given = [str(tmp_path / "photo.png"), "", "-m", str(model_of(ANIMATE)), "--strokes", asked, "--steps", "1"]
    assert main(["animate", *given, "--quiet", "-o", str(tmp_path / "clip.png")]) == 0
    Pipeline(model_of(ANIMATE)).animate(picture(), steps=1, strokes=asked)
    said, called = spy.calls
    assert torch.equal(said["x"], called["x"])
