"""Moving pictures as files: H.264 in mp4, and GIF. The settings travel as the comment of either."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

H264 = "libx264"
_ENCODING = {
    "crf": "10",  # the reference's: hardly a trace of compression
    # Without frames that look both ways: for these, x264 165 reads memory it has not set on CPUs with AVX-512 at many
    # widths, and the same frames become other files. Files are 2 to 10 % larger for it.
    "bf": "0",
}
_SAMPLE_SIDE = 128  # pixels a frame lends to the search for a palette


def check_h264() -> None:
    """Refuses where no H.264 can be written, with the way out."""
    try:
        import av
    except ImportError as error:
        raise InputError(
            f"mp4 needs PyAV, which cannot be loaded here ({error}); run 'pip install av', or write a .gif."
        ) from error
    try:
        av.codec.Codec(H264, "w")
    except ValueError as error:
        raise InputError(
            f"mp4 needs the H.264 encoder {H264}, which PyAV {av.__version__} lacks here; run 'pip install "
            "--force-reinstall av', or write a .gif or a folder of PNG frames."
        ) from error


def write_mp4(path: Path, frames: "Iterable[np.ndarray]", fps: float, comment: str) -> None:
    """One frame is in memory at a time, where `frames` makes them one by one."""
    import av
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = comment
        stream = container.add_stream(H264, rate=Fraction(fps).limit_denominator(1001), options=_ENCODING)
        stream.pix_fmt = "yuv420p"
        # Colours stay what they are only in a file that names its matrix; of others players guess it by their size.
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for index, pixels in enumerate(frames):
            pixels = _even(pixels)
            if not index:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _even(pixels: "np.ndarray") -> "np.ndarray":
    """Colour is stored for blocks of 2x2 pixels: an odd last row or column stands twice."""
    import numpy as np

    odd = pixels.shape[0] % 2, pixels.shape[1] % 2
    return np.pad(pixels, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge") if any(odd) else pixels


def read_mp4_comment(path: Path) -> str:
    import av

    with av.open(str(path)) as container:
        return container.metadata.get("comment", "")


def write_gif(path: Path, frames: "Iterable[np.ndarray]", fps: float, comment: str) -> None:
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    # One palette for the clip: with one a frame, still places flicker.
    palette = _sample(images).quantize(256, Image.Quantize.MEDIANCUT)
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for image in images)
    # A GIF counts in hundredths of a second. Rounding when frames end, not how long they last, keeps the speed true.
    ends = [round(100 * index / fps) for index in range(len(images) + 1)]
    durations = [10 * max(2, end - start) for start, end in zip(ends[:-1], ends[1:], strict=True)]
    first.save(path, "GIF", save_all=True, append_images=others, duration=durations, loop=0, comment=comment.encode())


def _sample(images: "list[Image.Image]") -> "Image.Image":
    """Some pixels of every frame, side by side."""
    from PIL import Image

    width, height = (min(_SAMPLE_SIDE, side) for side in images[0].size)
    strip = Image.new("RGB", (width * len(images), height))
    for index, image in enumerate(images):
        strip.paste(image.resize((width, height), Image.Resampling.NEAREST), (index * width, 0))
    return strip
