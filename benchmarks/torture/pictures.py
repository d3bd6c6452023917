"""Pictures: every format, mode, size, orientation and transparency that Pillow writes, damaged ones, and bombs."""

import contextlib
import io
import math
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.images import FITS, fit_image, read_image
from dynamicrafter_core.media.saving import read_settings

from .mutation import damaged, text
from .surface import Finding, Room, Surface

if TYPE_CHECKING:
    from PIL import Image

FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "BMP",
    "TIFF",
    "GIF",
    "PPM",
    "TGA",
    "ICO",
    "JPEG2000",
    "PCX",
    "DDS",
    "SGI",
    "ICNS",
    "AVIF",
    "QOI",
    "MPO",
    "SPIDER",
    "IM",
)
MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "I;16B",
)
SIDES = (1, 1, 2, 3, 7, 16, 63, 64, 65, 200)
LONG = (1000, 16_000, 40_000)


def drawn(chance: Random) -> "Image.Image":
    from PIL import Image

    width, height = chance.choice(SIDES), chance.choice(SIDES)
    if chance.random() < 0.15:
        width, height = chance.choice([(chance.choice(LONG), height), (width, chance.choice(LONG))])
    mode = chance.choice(MODES)
    grey = Image.effect_noise((width, height), 90) if width * height < 10**6 else Image.new("L", (width, height), 90)
    try:
        picture = grey.convert("RGB").convert(mode)
    except ValueError:
        picture = Image.new(mode, (width, height), 1)
    if mode == "P" and chance.random() < 0.5:
        picture.info["transparency"] = chance.choice((0, 3, bytes(range(256))))
    if mode in ("I", "F") and chance.random() < 0.5:
        picture = picture.point(lambda value: value * chance.choice((-1, 1000, 65535, 0.001)))
    return picture


def encoded(chance: Random) -> bytes:
    """A whole file, of a format that takes such a picture."""
    from PIL import Image

    options: dict[str, Any] = {}
    picture = drawn(chance)
    if chance.random() < 0.3:
        exif = picture.getexif()
        exif[0x0112] = chance.choice((*range(10), 255))
        options["exif"] = exif
    if chance.random() < 0.2:
        options |= {"save_all": True, "append_images": [drawn(chance) for _ in range(chance.randrange(1, 4))]}
    file = io.BytesIO()
    for kind in (chance.choice(FORMATS), "TIFF", "PNG"):
        try:
            picture.save(file, kind, **options)
            return file.getvalue()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, SystemError, RuntimeError):
            file, options = io.BytesIO(), {}  # a format that lacks the mode, the size or the option
    Image.new("RGB", picture.size).save(file, "PNG")
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(chance: Random) -> bytes:
    """Few bytes that say they are many pixels, or unpack to many."""
    width, height = chance.choice(
        (
            (30_000, 30_000),
            (16_000, 16_000),
            (2**31 - 1, 1),
            (2**31 - 1, 2**31 - 1),
            (16_000, 11_000),
            (100_000, 1_700),
            (0, 5),
        )
    )
    match chance.randrange(5):
        case 0:  # PNG, black, all of it there
            depth, kind = chance.choice(((1, 0), (8, 0), (8, 2), (16, 6), (8, 3)))
            packed = zlib.compress(bytes(min(width * height // 8, 2**25)), 9)
            body = (
                chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
                + chunk(b"IDAT", packed)
                + chunk(b"IEND", b"")
            )
        case 1:  # a text that unpacks to 64 MB
            name = chance.choice((b"zTXt", b"iTXt", b"iCCP"))
            start = b"dynamicrafter\0" + (b"\1\0\0\0" if name == b"iTXt" else b"\0")
            body = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(
                name, start + zlib.compress(bytes(2**26), 9)
            )
            body += chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")
        case 2:
            return (
                b"GIF89a"
                + struct.pack("<HH", 65535, 65535)
                + b"\x80\0\0"
                + bytes(6)
                + b","
                + struct.pack("<HHHH", 0, 0, 65535, 65535)
                + b"\0\2\2\x44\1\0;"
            )
        case 3:
            return b"BM" + struct.pack(
                "<IIIIiiHHIIiiII",
                54,
                0,
                54,
                40,
                min(width, 2**31 - 1),
                chance.choice((1, -1)) * min(height, 2**31 - 1),
                1,
                24,
                0,
                0,
                0,
                0,
                0,
                0,
            )
        case 4:
            return f"P{chance.choice('123456')} {width} {height} 255\n".encode() + bytes(1000)
    return b"\x89PNG\r\n\x1a\n" + body


def make_picture(chance: Random, room: Room) -> Callable[[], object]:
    path = room.given / f"picture{chance.choice(('.png', '.jpg', '.gif', '.webp', '', '.mp4'))}"
    kind = chance.random()
    path.write_bytes(
        bomb(chance) if kind < 0.1 else encoded(chance) if kind < 0.4 else damaged(encoded(chance), chance)
    )
    how, size = chance.choice(FITS), chance.choice(((64, 64), (512, 320), (64, 1024)))

    def attempt() -> None:
        with contextlib.suppress(InputError):
            read_settings(path)
        picture = read_image(path)
        check(picture, None)
        check(fit_image(picture, *size, how), size)

    return attempt


def check(image: Any, size: tuple[int, int] | None) -> None:
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel() or (size and tuple(image.shape[1:]) != size[::-1]):
        raise Finding(f"the picture has shape {list(image.shape)}")
    low, high = image.min().item(), image.max().item()
    if not (math.isfinite(low) and -1.001 <= low <= high <= 1.001):
        raise Finding(f"the picture holds values from {low} to {high}")


def make_settings(chance: Random, room: Room) -> Callable[[], object]:
    """What a saved file says of itself, which the batch believes when it goes on."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    path = room.given / chance.choice(("clip.png", "clip.gif"))
    said = chance.choice(('{"job": 1}', "[1]", "null", "{" * 5000, '{"a":' * 20_000, text(chance)))
    if path.suffix == ".png":
        info = PngInfo()
        info.add_itxt("dynamicrafter", said.encode("utf-8", "replace").decode())
        Image.new("RGB", (2, 2)).save(path, pnginfo=info)
    else:
        Image.new("RGB", (2, 2)).save(path, comment=said.encode("utf-8", "replace")[:60_000])
    if chance.random() < 0.3:
        path.write_bytes(damaged(path.read_bytes(), chance))
    return lambda: read_settings(path)


PICTURES = Surface(
    "pictures",
    "19 formats, 18 modes, 1 to 40,000 px, orientations, animations, transparency; altered bytes; decompression bombs",
    make_picture,
)
SETTINGS = Surface(
    "settings", "metadata in saved files: nested, truncated, altered, from every Unicode plane", make_settings
)
