"""ViewCrafter: a guide's views beside the noise, image tokens for all frames alike, and a camera that draws the guide."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, TOON, WIDTH, Spy, picture
from PIL import Image

from dynamicrafter_core.camera.camera import Camera
from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.frames import read_clip
from dynamicrafter_core.media.images import fit_image, read_image
from dynamicrafter_core.media.saving import read_settings, save_clip
from dynamicrafter_core.models.preprocess import preprocess_for_clip
from dynamicrafter_core.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.slow

VIEWS = "viewcrafter_25"


def views(count: int = FRAMES) -> list[np.ndarray]:
    return [picture(seed) for seed in range(10, 10 + count)]


@pytest.mark.parametrize(
    ("name", "per_frame"), [("viewcrafter_25", 1), ("viewcrafter_25_512", 1), ("viewcrafter_16", FRAMES)]
)
def test_the_network_sees_the_views_the_image_and_its_tokens(
    name: str, per_frame: int, model_of: Callable[[str], Path], spy: Spy
) -> None:
    """Assembled here from the parts, by the published recipe."""
    Pipeline(model_of(name)).fly(picture(), views(), "a room", steps=1, seed=4)
    parts = load_checkpoint(model_of(name))
    pixels = torch.stack([fit_image(read_image(view), WIDTH, HEIGHT, "crop") for view in [picture(), *views()[1:]]])
    with torch.inference_mode():
        mean, logvar = parts.load("autoencoder").encode(pixels)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(4))
        expected = 0.18215 * (mean + (logvar / 2).exp() * noise)  # frames 4 h w
        tower = parts.load("vision")(preprocess_for_clip(read_image(picture())[None], 28))
        tokens = parts.load("projector")(tower)
    torch.testing.assert_close(spy.first["x"][0, 4:], expected.transpose(0, 1), atol=1e-4, rtol=1e-4)
    assert spy.first["image"].shape[1] == per_frame
    if per_frame == 1:
        assert spy.first["image"].shape[2] == 256
        torch.testing.assert_close(spy.first["image"][:1], tokens, atol=1e-4, rtol=1e-4)
    assert spy.first["fs"].tolist() == [10]
    assert all(torch.equal(call["x"][:, 4:], spy.first["x"][:, 4:]) for call in spy.calls)


def test_a_camera_draws_the_views_of_the_fitted_image(model_of: Callable[[str], Path], spy: Spy) -> None:
    camera = Camera("pan right", amount=2.0)
    fitted = fit_image(read_image(picture()), WIDTH, HEIGHT, "crop")
    drawn, known = camera.views(fitted, FRAMES)
    assert torch.equal(drawn[0], fitted) and known[0].all() and not known[-1].all()
    pipeline = Pipeline(model_of(VIEWS))
    clip = pipeline.fly(picture(), camera, steps=1)
    by_camera = spy.first["x"].clone()
    spy.calls.clear()
    pipeline.fly(picture(), [view.permute(1, 2, 0).add(1).div(2).numpy() for view in drawn], steps=1)
    torch.testing.assert_close(spy.first["x"], by_camera, atol=1e-3, rtol=1e-3)
    assert clip.settings["camera"] == "pan right" and clip.settings["prompt"] == "Rotating view of a scene"


def test_depth_decides_what_moves(tmp_path: Path) -> None:
    near = np.zeros((HEIGHT, WIDTH), np.uint8)
    near[:, : WIDTH // 2] = 255
    Image.fromarray(near).save(tmp_path / "depth.png")
    image = fit_image(read_image(picture(width=WIDTH, height=HEIGHT)), WIDTH, HEIGHT, "crop")
    flat, _ = Camera("move right").views(image, 2)
    deep, known = Camera("move right", depth=tmp_path / "depth.png").views(image, 2)
    assert not torch.allclose(flat[1], deep[1]) and not known[1].all()


@pytest.mark.parametrize("kind", ["mp4", "gif", "folder", "list", "tensor"])
def test_a_guide_comes_from_any_moving_picture(
    kind: str, tmp_path: Path, model_of: Callable[[str], Path], spy: Spy
) -> None:
    frames = torch.from_numpy(np.stack([np.full((40, 60, 3), 255 * k // FRAMES, np.uint8) for k in range(FRAMES)]))
    target = tmp_path / ("views" if kind == "folder" else f"views.{kind}")
    guide = list(frames.numpy()) if kind == "list" else frames if kind == "tensor" else save_clip(frames, target, 8)
    Pipeline(model_of(VIEWS)).fly(picture(), guide, steps=1)
    brightness = spy.first["x"][0, 4:, 1:]
    assert brightness.shape[1] == FRAMES - 1
    steps = (brightness[:, 1:] - brightness[:, :-1]).abs().flatten(2).mean(2)
    assert (steps > 1e-3).any(0).all()  # every view is another one


def test_a_guide_of_another_length_is_refused(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=f"guide has 3 frames for a clip of {FRAMES}; give as many"):
        Pipeline(model_of(VIEWS)).fly(picture(), views(3), frames=FRAMES)
    with pytest.raises(InputError, match="guide is 5; give its frames"):
        Pipeline(model_of(VIEWS)).fly(picture(), 5)


def test_models_without_a_guide_warn_or_refuse(model_of: Callable[[str], Path], spy: Spy) -> None:
    with pytest.warns(UserWarning, match="was not trained to follow a guide, as ViewCrafter was"):
        Pipeline(model_of(ANIMATE)).fly(picture(), Camera("zoom in"), steps=1)
    for name in (TOON, "videocrafter2_t2v_512"):
        with pytest.raises(InputError, match="cannot fly.*viewcrafter_25"):
            Pipeline(model_of(name)).fly(picture(), Camera("zoom in"))
    with pytest.raises(InputError, match="viewcrafter_25 cannot animate: it was trained to fly"):
        Pipeline(model_of(VIEWS)).animate(picture())


def test_the_command_line_flies_by_camera_and_by_guide(tmp_path: Path, model_of: Callable[[str], Path]) -> None:
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    Image.fromarray(picture(1)).save(tmp_path / "depth.png")
    save_clip(torch.from_numpy(np.stack(views())), tmp_path / "views.mp4", 8)
    common = ["-m", str(model_of(VIEWS)), "--steps", "1", "--quiet"]
    target, image = tmp_path / "out.mp4", str(tmp_path / "photo.png")
    camera = ["--camera", "1: yaw 10, z 0.2", "--depth", str(tmp_path / "depth.png"), "--amount", "0.5"]
    assert main(["fly", image, *camera, *common, "-o", str(target)]) == 0
    assert len(read_clip(target)) == FRAMES
    assert read_settings(target)["camera"] == "1: yaw 10, z 0.2"
    assert main(["fly", image, "a room", "--guide", str(tmp_path / "views.mp4"), *common, "-o", str(target)]) == 0
    assert read_settings(target)["prompt"] == "a room"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "one of the arguments --camera --guide is required"),
        (["--camera", "zoom in", "--guide", "x.mp4"], "not allowed with"),
        (["--guide", "missing.mp4"], "missing.mp4 does not exist; give a video, or a folder of pictures"),
        (["--camera", "zoom in", "--depth-kind", "metres"], "kind of depth map is 'metres'"),
        (["--camera", "zoom in", "--easing", "fast"], "easing is 'fast'; give smooth, linear, in, out"),
        (["--camera", "zoom in", "--field-of-view", "0"], "field of view is 0.0; give a number from 1 to 170"),
    ],
)
def test_the_command_line_refuses_in_a_sentence(
    given: list[str], message: str, tmp_path: Path, model_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    depth = ["--depth", str(tmp_path / "photo.png")] if "--depth-kind" in given else []
    common = ["-m", str(model_of(VIEWS)), "--steps", "1", "-o", str(tmp_path / "out.mp4"), *depth]
    assert main(["fly", str(tmp_path / "photo.png"), *given, *common]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.mp4", b"no video", "cannot be decoded as a video"),
        ("broken.gif", b"GIF89a", "cannot be read as a picture"),
        ("empty", None, "holds no frames"),
    ],
)
def test_moving_pictures_that_are_none_are_refused(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_clip(path)


def test_more_frames_than_asked_for_are_refused(tmp_path: Path) -> None:
    path = save_clip(torch.from_numpy(np.stack(views(5))), tmp_path / "five.gif", 8)
    assert len(read_clip(path, at_most=5)) == 5
    with pytest.raises(InputError, match="holds more than 4 frames"):
        read_clip(path, at_most=4)
