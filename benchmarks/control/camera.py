"""Does a clip follow a camera without a word in the prompt: by noise that moves along its path, and by the picture that leads along it?"""

from torch import Tensor

from dynamicrafter_core.diffusion.noise import NoisePrior
from dynamicrafter_core.diffusion.noise_path import NoisePath
from dynamicrafter_core.training.clips import Clips
from dynamicrafter_core.training.measures import conformity
from dynamicrafter_core.training.motion_judge import see_motion

from .measures import PANS_AND_ZOOMS, Bench, Row, likeness_in_decibels, listed, sharpness, silent
from .strokes import film

PATHS = {
    "pan_left": "pan -0.3 0",
    "pan_right": "pan 0.3 0",
    "pan_up": "pan 0 -0.3",
    "pan_down": "pan 0 0.3",
    "zoom_in": "zoom 1.5",
    "zoom_out": "zoom 0.6667",
}
SHARE = 1.0
UNTIL = (0.0,)  # beside the usual share: the moved picture as detail alone


def in_noise(bench: Bench) -> list[Row]:
    """Noise is moved, and the picture is not."""
    right, likeness, seconds, count = 0, 0.0, 0.0, 0
    for index, (name, path) in enumerate(PATHS.items()):
        cases = len(range(index, bench.cases, len(PATHS)))
        clips = silent(bench.pictures(100 * index, [name] * cases))
        noise = NoisePrior("residual", SHARE, NoisePath.read(path))
        made, each = bench.make(clips, noise=noise, eta=0.0)
        right += follow(made, [name] * cases)
        likeness += float(conformity(made, clips.pixels[:, :, 0]).sum())
        seconds, count = seconds + each * cases, count + cases
    effect = (
        f"{right} of {count} clips follow the path with an empty prompt (residual, share {SHARE:g}, eta 0); likeness "
        f"{likeness / count:.3f}"
    )
    paper = "[Text2Video-Zero](https://arxiv.org/abs/2303.13439)"
    return [Row("noise: camera path", paper, effect, seconds / count / bench.seconds)]


def leading(bench: Bench) -> list[Row]:
    """The picture is moved along the same paths as a crude animation, and its noise with it."""
    names, clips = cases(bench)
    few = min(2 * bench.count, len(names))
    pictures = clips.pixels[:, :, 0].cpu()
    made, seconds = film(bench, clips, [{"strokes": f"camera {PATHS[name]}"} for name in names])
    some = Clips(clips.pixels[:few], clips.captions[:few], clips.fs[:few])
    plain, without = film(bench, some, [{} for _ in range(few)])
    shares = []
    for until in UNTIL:
        led, _ = film(bench, some, [{"strokes": f"camera {PATHS[name]}; until {until:g}"} for name in names[:few]])
        shares.append(f"until {until:g}: {follow(led, names[:few])}")
    looks = (plain, made[:few])
    first = listed([likeness_in_decibels(each[:, :, 0], pictures[:few]) for each in looks], 1)
    sharp = [listed([sharpness(each[:, :, place], pictures[:few]) for each in looks]) for place in (0, -1)]
    effect = (
        f"{follow(made, names)} of {len(names)} clips follow the path with an empty prompt. Of the first {few}: {follow(made[:few], names[:few])}; without the "
        f"camera: {follow(plain, names[:few])}; with {', '.join(shares)}. Without and with the camera: PSNR of the first frame to the picture {first} dB, "
        f"sharpness of the first frame {sharp[0]}, of the last {sharp[1]}"
    )
    return [Row("strokes: camera", "[Time-to-Move](https://arxiv.org/abs/2511.08633)", effect, seconds / without)]


def cases(bench: Bench) -> tuple[list[str], Clips]:
    """The pictures of `in_noise`, its paths in turn, without a word."""
    names = [list(PATHS)[number % len(PATHS)] for number in range(bench.cases)]
    numbers = [100 * (number % len(PATHS)) + number // len(PATHS) for number in range(bench.cases)]
    return names, silent(bench.source("held-out", numbers, motions=names, fs=[bench.subject.fs] * len(names)))


def follow(made: Tensor, names: list[str]) -> int:
    """Clips that the judge of motion sees move so."""
    seen = see_motion(made, motions=("still", *PANS_AND_ZOOMS))
    return sum(one.motion == name for one, name in zip(seen, names, strict=True))
