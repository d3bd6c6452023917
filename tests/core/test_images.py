"""Reading images of every kind, and fitting them to a frame."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media import images
from dynamicrafter_core.media.images import check_size, fit_image, read_image, round_size


def gradient(width: int, height: int) -> np.ndarray:
    """A picture in which no two places look alike: red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 7 * 30], -1).astype("uint8")


def as_bytes(image: torch.Tensor) -> np.ndarray:
    return ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def test_an_rgb_file_keeps_every_pixel(tmp_path: Path) -> None:
    pixels = gradient(20, 10)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, 10, 20) and image.dtype == torch.float32
    assert np.array_equal(as_bytes(image), pixels)
    assert torch.equal(image, read_image(str(tmp_path / "a.png")))


def test_black_is_minus_one_and_white_one() -> None:
    assert read_image(np.zeros((2, 2, 3), np.uint8)).unique().tolist() == [-1]
    assert read_image(np.full((2, 2, 3), 255, np.uint8)).unique().tolist() == [1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(gradient(8, 6))
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(as_bytes(read_image(tmp_path / "turned.png")), np.asarray(upright))


def test_what_is_transparent_becomes_mid_grey() -> None:
    pixels = np.full((1, 3, 4), 255, np.uint8)
    pixels[0, :, 3] = 255, 0, 51
    assert read_image(Image.fromarray(pixels))[0, 0].tolist() == pytest.approx([1, 0, 0.2])


def test_a_palette_with_a_transparent_colour_is_read(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=1)
    assert read_image(tmp_path / "plain.png")[:, 0].T.tolist() == [[1, -1, -1], [-1, -1, 1]]
    assert read_image(tmp_path / "clear.png")[:, 0].T.tolist() == [[1, -1, -1], [0, 0, 0]]


def test_sixteen_bits_are_not_rounded_to_eight(tmp_path: Path) -> None:
    values = np.array([[0, 1, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    expected = pytest.approx((values[0] / 65535 * 2 - 1).tolist(), abs=1e-6)
    assert read_image(tmp_path / "deep.png")[0, 0].tolist() == expected
    assert read_image(values)[2, 0].tolist() == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"])
def test_every_pillow_mode_gives_three_channels(mode: str) -> None:
    image = read_image(Image.new(mode, (4, 3)))
    assert image.shape == (3, 3, 4) and image.abs().max() <= 1


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "moving.gif", save_all=True, append_images=[blue])
    assert read_image(tmp_path / "moving.gif")[:, 0, 0].tolist() == [1, -1, -1]


def test_floats_in_an_array_are_zero_to_one_and_in_a_tensor_minus_one_to_one() -> None:
    assert read_image(np.full((2, 2), 0.75))[1, 0, 0].item() == 0.5
    tensor = torch.linspace(-1, 1, 12).view(3, 2, 2)
    assert torch.equal(read_image(tensor), tensor)
    assert torch.equal(read_image(tensor[None].double()), tensor)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (np.full((2, 2, 3), 200.0), "200"),
        (np.full((2, 2, 3), np.nan), "nan"),
        (np.zeros((2, 2, 2), np.uint8), "[2, 2, 2]"),
        (np.zeros((0, 2, 3), np.uint8), "[0, 2, 3]"),
        (np.zeros((2, 2, 3), np.int64), "int64"),
        (torch.zeros(2, 2, 3), "[2, 2, 3]"),
        (torch.full((3, 2, 2), 2.0), "2"),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), "uint8"),
        (7, "int"),
        ("nowhere.png", "nowhere.png"),
        (".", "folder"),
    ],
)
def test_what_is_no_image_is_refused_by_name(source: object, named: str) -> None:
    with pytest.raises(InputError, match="image") as refused:
        read_image(source)  # type: ignore[arg-type]
    assert named in str(refused.value) and "\n" not in str(refused.value)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    broken = {"short.png": whole[: len(whole) // 2], "text.jpg": b"hello", "empty.png": b"", "head.png": whole[:20]}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)


def reference_preprocessing(image: Image.Image, width: int, height: int) -> np.ndarray:
    """The reference's Resize(shorter side) and CenterCrop, in Pillow's own 8-bit arithmetic."""
    side = min(width, height)
    if image.width < image.height:
        image = image.resize((side, int(side * image.height / image.width)), Image.Resampling.BILINEAR)
    else:
        image = image.resize((int(side * image.width / image.height), side), Image.Resampling.BILINEAR)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height)))


@pytest.mark.parametrize("source_size", [(1920, 1080), (853, 480), (333, 200), (100, 60)])
def test_crop_equals_the_references_preprocessing(source_size: tuple[int, int]) -> None:
    image = Image.fromarray(gradient(*source_size))
    ours = as_bytes(fit_image(read_image(image), 512, 320)).astype(int)
    assert np.abs(ours - reference_preprocessing(image, 512, 320)).max() <= 1  # Pillow rounds between its two passes


def test_crop_treats_portrait_as_landscape() -> None:
    image = read_image(gradient(300, 500))
    turned = fit_image(image.transpose(1, 2), 512, 320)
    assert torch.allclose(fit_image(image, 320, 512), turned.transpose(1, 2), atol=1e-5)


@pytest.mark.parametrize("source_size", [(64, 64), (64, 640), (640, 64), (1, 1), (511, 319)])
@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
def test_any_image_fits_any_frame(source_size: tuple[int, int], how: str) -> None:
    white = torch.ones(3, source_size[1], source_size[0])
    fitted = fit_image(white, 128, 64, how)  # type: ignore[arg-type]
    assert fitted.shape == (3, 64, 128)
    if how != "pad":
        assert fitted.min() > 0.999  # nothing but the image


def test_pad_keeps_the_whole_image_between_mid_grey_bars() -> None:
    fitted = fit_image(torch.ones(3, 10, 10), 128, 64, "pad")
    assert fitted[:, :, 32:96].min() > 0.999
    assert fitted[:, :, :32].abs().max() == 0 and fitted[:, :, 96:].abs().max() == 0


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = read_image(gradient(128, 64))
    for how in ("crop", "pad", "stretch"):
        assert torch.equal(fit_image(image, 128, 64, how), image)  # type: ignore[arg-type]


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(InputError, match="'tile'"):
        fit_image(torch.zeros(3, 8, 8), 64, 64, "tile")  # type: ignore[arg-type]


def test_a_size_that_does_not_divide_names_the_nearest() -> None:
    check_size(512, 320)
    with pytest.raises(InputError, match="500x300.*64.*512x320"):
        check_size(500, 300)
    with pytest.raises(InputError, match="width is 0"):
        check_size(0, 320)


def test_sizes_round_to_the_nearest_but_never_to_nothing() -> None:
    assert round_size(500, 300) == (512, 320)
    assert round_size(1, 96) == (64, 128)


@pytest.mark.parametrize(("width", "height"), [(1, 40_000), (40_000, 1)])
def test_of_a_line_the_middle_fills_the_frame(width: int, height: int) -> None:
    image = torch.linspace(-1, 1, 40_000).view(1, height, width).expand(3, -1, -1)
    cropped = fit_image(image, 512, 512)
    assert cropped.shape == (3, 512, 512)
    assert cropped.mean().abs() < 1e-3


def test_a_picture_too_large_for_the_memory_is_averaged_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = gradient(64, 32)
    monkeypatch.setattr(images, "_MOST_PIXELS", 64 * 32 // 4)
    image = read_image(Image.fromarray(pixels))
    blocks = pixels.reshape(16, 2, 32, 2, 3).mean((1, 3))
    assert image.shape == (3, 16, 32)
    assert np.abs((image.permute(1, 2, 0).numpy() + 1) * 127.5 - blocks).max() <= 1


def test_whatever_a_decoder_raises_over_a_damaged_file_becomes_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise NotImplementedError("Unknown pixel format flags 0")

    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(
        InputError, match="cannot be read .Unknown pixel format flags 0.; it may be cut short or damaged"
    ):
        read_image(tmp_path / "a.png")
