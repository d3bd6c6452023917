"""Images in: any kind of image becomes one float tensor [3,H,W] in [-1,1], of the size a model wants.

Zero is mid-grey, and mid-grey is this family's word for "no image": what is transparent, or padded on, becomes that.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    ImageSource = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor

Fit = Literal["crop", "pad", "stretch"]
FITS: tuple[Fit, ...] = ("crop", "pad", "stretch")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # of the pictures in a folder
LONGEST_SIDE = 16384  # of a clip in pixels, as in ComfyUI

_FAR_LONGER = 16
_MOST_PIXELS = 2**25  # of a larger picture blocks are averaged: as floats it is four times its size in the file
_REDUCIBLE = ("RGB", "RGBA", "I", "F")
_RANGES = {"uint8": 255.0, "uint16": 65535.0, "bool": 1.0}


def read_image(source: "ImageSource", behind: float = 0.0) -> Tensor:
    """[3,H,W] in [-1,1], with `behind` (mid-grey) where it is transparent, from one of

    a path      any format Pillow reads; its EXIF orientation is applied, of an animation the first frame is taken
    PIL.Image   of any mode
    an array    [H,W], [H,W,1], [H,W,3] or [H,W,4]: uint8, uint16, bool, or floats in [0,1]
    a tensor    [3,H,W] or [1,3,H,W] floats in [-1,1]: already what this function gives
    """
    import numpy as np
    from PIL import Image

    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, (str, os.PathLike)):
        return _from_file(source, behind)
    if isinstance(source, np.ndarray):
        return _from_array(source, "the image", behind)
    if isinstance(source, Image.Image):
        with _refusing("the image"):
            return _from_pil(source, "the image", behind)
    raise InputError(
        f"the image is a {type(source).__name__}; give a path, a PIL image, an array [H,W,3], or a tensor [3,H,W]."
    )


def fit_image(image: Tensor, width: int, height: int, how: Fit = "crop") -> Tensor:
    """`image` [3,H,W] as [3,height,width], resized as Pillow's antialiased bilinear filter does.

    crop      the shorter side fills the frame and the middle is kept, as in the reference (whose own crop leaves black
              bars where the image is the narrower of the two; this one always fills)
    pad       the whole image, with mid-grey bars
    stretch   the whole image, its shape changed
    """
    if how not in FITS:
        raise InputError(f"fit is {how!r}; give 'crop', 'pad' or 'stretch'.")
    if how == "stretch":
        return _resize(image, width, height)
    if how == "crop":
        image = _middle(_middle(image, 1, width / height), 2, height / width)
    image_height, image_width = image.shape[-2:]
    by_width = (width, max(1, int(width * image_height / image_width)))
    by_height = (max(1, int(height * image_width / image_height)), height)
    narrower = image_width * height < width * image_height  # than the frame
    if how == "crop":
        resized = _resize(image, *(by_width if narrower else by_height))
        # The reference's CenterCrop rounds its offsets to even halves, as Python does.
        top, left = round((resized.shape[1] - height) / 2), round((resized.shape[2] - width) / 2)
        return resized[:, top : top + height, left : left + width]
    resized = _resize(image, *(by_height if narrower else by_width))
    across, down = width - resized.shape[2], height - resized.shape[1]
    return F.pad(resized, (across // 2, across - across // 2, down // 2, down - down // 2))


def in_bytes(images: Tensor) -> Tensor:
    """[N,3,H,W] in [-1,1] -> uint8 [N,H,W,3]; a picture that was read comes back as it was."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).cpu()


def _middle(image: Tensor, side: int, ratio: float) -> Tensor:
    """Of a picture far longer along `side` than the frame the middle, which is all that is kept: resized as a whole it is too large."""
    length, across = image.shape[side], image.shape[3 - side]
    most = _FAR_LONGER * math.ceil(across / ratio)
    most += (length - most) % 2  # so that the middle stays the middle
    return image if length <= most else image.narrow(side, (length - most) // 2, most)


def check_size(width: int, height: int, multiple: int = 64) -> None:
    """Frames are latents of an eighth of their size, which the UNet halves three times: sides are multiples of 64."""
    for name, side in (("width", width), ("height", height)):
        if isinstance(side, bool) or not isinstance(side, int) or not 0 < side <= LONGEST_SIDE:
            raise InputError(
                f"{name} is {side!r}; give a whole number of pixels, at most {LONGEST_SIDE} and divisible by {multiple}, "
                "such as 512."
            )
    if width % multiple or height % multiple:
        near_width, near_height = round_size(width, height, multiple)
        raise InputError(
            f"size {width}x{height} is not divisible by {multiple}; the nearest valid size is "
            f"{near_width}x{near_height}."
        )


def round_size(width: float, height: float, multiple: int = 64) -> tuple[int, int]:
    """The nearest size a model can make."""

    def nearest(side: float) -> int:
        return max(1, int(side / multiple + 0.5)) * multiple

    return nearest(width), nearest(height)


def _resize(image: Tensor, width: int, height: int) -> Tensor:
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(image[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]


def _from_tensor(image: Tensor) -> Tensor:
    if image.ndim == 4 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel() or not image.is_floating_point():
        raise InputError(
            f"the image is a {image.dtype} tensor of shape {list(image.shape)}; give [3,H,W] floats in [-1,1] "
            "(an array [H,W,3] may hold 0..255 or floats in [0,1])."
        )
    image = image.detach().to("cpu", torch.float32)
    low, high = image.min().item(), image.max().item()
    if not (low >= -1.001 and high <= 1.001):  # NaN fails too
        raise InputError(f"the image tensor holds values from {low:g} to {high:g}; give [3,H,W] floats in [-1,1].")
    return image.clamp(-1, 1)


def _from_file(path: str | os.PathLike[str], behind: float) -> Tensor:
    from PIL import Image

    name = f"image {os.fspath(path)}"
    with _refusing(name), Image.open(path) as image:
        return _from_pil(image, name, behind)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """What Pillow and its decoders raise over a file that is not what it should be, as one sentence."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name} does not exist; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a folder; give one image file.") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{name} is not an image that Pillow can read; give a PNG, JPEG, WebP, BMP, TIFF or GIF file."
        ) from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} is refused for its size ({error}); make it smaller first.") from error
    except Exception as error:  # a damaged file can lead its decoder anywhere
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{name} cannot be read ({reason}); it may be cut short or damaged.") from error


def _from_pil(image: "Image.Image", name: str, behind: float) -> Tensor:
    from PIL import ImageOps

    if not image.width or not image.height:
        raise InputError(f"{name} has no pixels ({image.width}x{image.height}).")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, in 16 or 32 bits
        return _from_array(_array(image).astype("float32") / 65535, name)
    if image.mode == "F":
        return _from_array(_array(image), name)
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info
    return _from_array(_array(image.convert("RGBA" if transparent else "RGB")), name, behind)


def _array(image: "Image.Image") -> "np.ndarray":
    import numpy as np

    pixels = image.width * image.height
    if pixels > _MOST_PIXELS and image.mode in _REDUCIBLE:
        image = image.reduce(math.ceil(math.sqrt(pixels / _MOST_PIXELS)))
    return np.asarray(image)


def _from_array(array: "np.ndarray", name: str, behind: float = 0.0) -> Tensor:
    kind = array.dtype.name
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise InputError(f"{name} is an array of shape {list(array.shape)}; give [H,W,3], [H,W,4] or [H,W].")
    if kind not in _RANGES and array.dtype.kind != "f":
        raise InputError(f"{name} is an array of {kind}; give uint8, uint16, or floats in [0,1].")
    pixels = torch.from_numpy(array.astype("float32") / _RANGES.get(kind, 1.0))
    return _signed(pixels.permute(2, 0, 1), name, behind)


def _signed(pixels: Tensor, name: str, behind: float) -> Tensor:
    """[1|3|4,H,W] in [0,1] -> [3,H,W] in [-1,1]; what is transparent fades to `behind`."""
    low, high = pixels.min().item(), pixels.max().item()
    if not (low >= -0.001 and high <= 1.001):
        raise InputError(f"{name} holds values from {low:g} to {high:g}; give floats from 0 (black) to 1 (white).")
    pixels = pixels.clamp(0, 1)
    colour = (2 * pixels[:3] - 1).expand(3, -1, -1)
    return (behind + (colour - behind) * pixels[3:] if pixels.shape[0] == 4 else colour).contiguous()
