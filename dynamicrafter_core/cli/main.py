"""The command line: `dynamicrafter animate photo.jpg "waves on the sea" -m dynamicrafter_512.ckpt`.

Exit codes: 0 done, 2 something given is wrong (one sentence on stderr, nothing written), 130 interrupted.
"""

import argparse
import io
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from .. import __version__
from ..errors import InputError, one_line
from ..training.command import add_arguments as add_training
from .batch import add_arguments as add_batch

DESCRIPTION = """\
A still image and a prompt become a short video: DynamiCrafter, and its family
(VideoCrafter, ToonCrafter), from their released checkpoints.
"""

EXAMPLES = """\
examples:
  dynamicrafter animate photo.jpg "a boat on the sea, waves" -m dynamicrafter_512.ckpt
  dynamicrafter animate photo.jpg "fireworks" -m dynamicrafter_1024.ckpt -o a.mp4 -o a.gif
  dynamicrafter interpolate first.png last.png "a flower opens" -m dynamicrafter_512_interp.ckpt
  dynamicrafter loop campfire.jpg "flames" -m dynamicrafter_512_interp.ckpt -o campfire.gif
  dynamicrafter generate "a panda plays the guitar" -m videocrafter2.ckpt
  dynamicrafter convert model.ckpt model_fp16.safetensors --dtype fp16 --layout pruned
  dynamicrafter inspect model.safetensors

'dynamicrafter COMMAND --help' tells what a command takes.
"""

OUTPUTS = "clip.mp4 (H.264), clip.gif, clip.png (a contact sheet), or clip (a folder of PNG frames)"


# Options stand beside what they do, not above it.
_FORMAT = partial(argparse.RawDescriptionHelpFormatter, max_help_position=26)


class Parser(argparse.ArgumentParser):
    """argparse, but what is wrong is one sentence, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)}; see '{self.prog} --help'.\n")


def main(argv: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit as end:  # after --help, --version, or Parser.error
        return int(end.code or 0)
    from .commands import COMMANDS

    try:
        run = COMMANDS.get(arguments.command) or arguments.run
        return run(arguments)
    except InputError as error:
        sys.stderr.write(f"dynamicrafter: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ndynamicrafter: interrupted; no half-written file is left.\n")
        return 130


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="dynamicrafter",
        usage="dynamicrafter COMMAND ...",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=_FORMAT,
    )
    parser.add_argument("-V", "--version", action="version", version=f"dynamicrafter {__version__}")
    commands = parser.add_subparsers(
        title="commands", prog="dynamicrafter", dest="command", metavar="COMMAND", required=True
    )

    def command(name: str, takes: str, summary: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            usage=f"dynamicrafter {name} {takes} [options]",
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example:\n  {example}\n",
            formatter_class=_FORMAT,
        )

    animate = command(
        "animate",
        "IMAGE PROMPT",
        "bring a still image to life",
        'dynamicrafter animate photo.jpg "waves" -m dynamicrafter_512.ckpt',
    )
    animate.add_argument("image", metavar="IMAGE", help="PNG, JPEG, WebP, ... (of a GIF the first frame)")
    interpolate = command(
        "interpolate",
        "A B PROMPT",
        "turn one image into another",
        'dynamicrafter interpolate a.png b.png "a flower opens" -m dynamicrafter_512_interp.ckpt',
    )
    interpolate.add_argument("image", metavar="A", help="the first frame")
    interpolate.add_argument("last", metavar="B", help="the last frame")
    loop = command(
        "loop",
        "IMAGE PROMPT",
        "move an image so that the end meets the beginning",
        'dynamicrafter loop campfire.jpg "flames" -m dynamicrafter_512_interp.ckpt -o campfire.gif',
    )
    loop.add_argument("image", metavar="IMAGE", help="the first frame, and the one to come back to")
    fly = command(
        "fly",
        "IMAGE [PROMPT] --camera MOTION | --guide FILE",
        "fly a camera through an image",
        'dynamicrafter fly room.jpg --camera "orbit left" --depth room_depth.png -m ViewCrafter_25.ckpt',
    )
    fly.add_argument("image", metavar="IMAGE", help="the first frame")
    extend = command(
        "extend",
        "VIDEO PROMPT ...",
        "let a video go on, by a clip for each prompt",
        'dynamicrafter extend boat.mp4 "waves" "the sun sets" -m dynamicrafter_512.ckpt -o longer.mp4',
    )
    extend.add_argument("video", metavar="VIDEO", help="a video, or a folder of pictures")
    generate = command(
        "generate",
        "PROMPT",
        "make a video from a prompt alone",
        'dynamicrafter generate "a panda" -m videocrafter2.ckpt',
    )
    for maker in (animate, interpolate, loop, fly, extend, generate):
        prompt = maker.add_argument("prompt", metavar="PROMPT", help="what happens; may be empty")
        if maker is extend:
            prompt.nargs = "+"
        if maker is fly:
            prompt.nargs, prompt.required, prompt.default = "?", False, "Rotating view of a scene"
        _add_model(maker)
        _add_output(maker)
        _add_look(maker, with_image=maker is not generate)
        _add_start(maker, maskable=maker is animate)

    _add_camera(fly)
    group = extend.add_argument_group("the joint")
    group.add_argument(
        "--keep", type=_whole, default=1, metavar="K", help="frames that hand on the motion, 1 to 4 (default: 1)"
    )
    group.add_argument(
        "--image", metavar="IMAGE", help="what the context shows, against drift (default: the first frame of VIDEO)"
    )
    group.add_argument("--no-match", action="store_true", help="leave brightness and contrast at the joint as they are")
    group.add_argument("--only-new", action="store_true", help="write the new frames alone, without those of VIDEO")

    convert = command(
        "convert",
        "SOURCE TARGET",
        "make a checkpoint smaller and safe to load",
        "dynamicrafter convert model.ckpt model.safetensors --dtype fp16",
    )
    convert.add_argument("source", metavar="SOURCE", help="a .ckpt or .safetensors file")
    _add_target(convert)
    convert.add_argument("--variant", default="auto", metavar="NAME", help="which released model SOURCE is")
    convert.add_argument("--extra", action="append", default=[], metavar="FILE", help="a file with further parts")

    merge = command(
        "merge",
        "FIRST SECOND TARGET",
        "mix parts of two models into one file",
        "dynamicrafter merge dynamicrafter_512.ckpt sd21_style.safetensors styled.safetensors --spatial 0.5",
    )
    merge.add_argument("first", metavar="FIRST", help="the model to start from")
    merge.add_argument(
        "second", metavar="SECOND", help="a model of the family, or a fine-tune of Stable Diffusion 2 (spatial only)"
    )
    for part, what in (
        ("spatial", "spatial layers"),
        ("temporal", "temporal layers"),
        ("projector", "image projector"),
    ):
        merge.add_argument(
            f"--{part}", type=float, default=0.0, metavar="N", help=f"share of SECOND's {what}, 0 to 1 (default: 0)"
        )
    _add_target(merge)
    merge.add_argument("--variant", default="auto", metavar="NAME", help="which released model FIRST is")

    inspect = command(
        "inspect", "FILE", "show what a checkpoint file is, and why", "dynamicrafter inspect model.safetensors --json"
    )
    inspect.add_argument("file", metavar="FILE")
    inspect.add_argument("--variant", default="auto", metavar="NAME", help="does it fit this released model?")
    inspect.add_argument("--json", action="store_true", help="for programs")
    add_batch(commands)
    add_training(commands)
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    """The checkpoint that a command writes."""
    parser.add_argument("target", metavar="TARGET", help="a .safetensors file to write")
    parser.add_argument("--dtype", default="fp16", choices=("fp16", "bf16", "fp32", "keep"), help="(default: fp16)")
    parser.add_argument(
        "--layout",
        default="whole",
        choices=("whole", "pruned", "split"),
        help="whole: all parts; pruned: without the CLIP towers; split: a file for each part (default: whole)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace TARGET if it exists")
    parser.add_argument("--quiet", action="store_true", help="no bar, no notes: errors only")


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the model")
    group.add_argument(
        "-m",
        "--model",
        default="embedded",
        metavar="FILE",
        help="a checkpoint (default: the small model that is built in)",
    )
    group.add_argument(
        "--variant", default="auto", metavar="NAME", help="which released model it is, if FILE does not show it"
    )
    group.add_argument(
        "--extra",
        action="append",
        default=[],
        metavar="FILE",
        help="a file with parts that the model's lacks, such as CLIP towers; may be repeated",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    group.add_argument(
        "--dtype", default="auto", help="auto, fp32, fp16, bf16 (default: fp32 on cpu, else the file's half)"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the result")
    group.add_argument(
        "-o", "--out", action="append", metavar="FILE", help=f"{OUTPUTS}; may be repeated (default: IMAGE-COMMAND.mp4)"
    )
    group.add_argument(
        "--size", type=_size, metavar="WxH", help="sides that 64 divides (default: the model's, upright too)"
    )
    group.add_argument("--frames", type=_whole, metavar="N", help="(default: 16, as the models were trained)")
    group.add_argument(
        "--window", type=_whole, metavar="N", help="frames the model sees at once of a longer clip, such as 16"
    )
    group.add_argument("--overlap", type=_whole, metavar="N", help="of the windows (default: a quarter of --window)")
    group.add_argument("--fuse", metavar="HOW", help="of the windows: pyramid, flat, overlap-linear (default: pyramid)")
    group.add_argument(
        "--closed-loop", action="store_true", default=None, help="windows go on from the last frame to the first"
    )
    group.add_argument("--stride", type=_whole, metavar="N", help="of the widest windows, 2, 4, ... (default: 1)")
    group.add_argument(
        "--freenoise", action="store_true", default=None, help="later windows get the noise of earlier ones, shuffled"
    )
    group.add_argument(
        "--then", action="append", metavar="PROMPT", help="of the next stretch of a clip of windows; may be repeated"
    )
    group.add_argument("--fps", type=_number, metavar="F", help="of the file, not of the motion (default: the model's)")
    group.add_argument("--quiet", action="store_true", help="no bars, no notes: errors only")


def _add_look(parser: argparse.ArgumentParser, with_image: bool) -> None:
    group = parser.add_argument_group("the look (defaults: what the model was published with)")
    group.add_argument(
        "--seed", type=_whole, default=123, metavar="N", help="the same seed, the same clip (default: 123)"
    )
    group.add_argument("--negative", default="", metavar="PROMPT", help="what not to show")
    group.add_argument(
        "--steps", type=_whole, metavar="N", help="of denoising; 25 to 50 are usual, 4 to 8 with T2V-Turbo"
    )
    group.add_argument("--cfg", type=_number, metavar="S", help="how strongly the prompt guides")
    if with_image:
        group.add_argument(
            "--cfg-image", type=_number, metavar="S", help="how strongly the image does, if not as strongly"
        )
        group.add_argument(
            "--context-strength", type=_number, metavar="S", help="of the image beside the text; 2 moves less than 1"
        )
        group.add_argument(
            "--fit", default="crop", metavar="HOW", help="of the image: crop, pad, stretch (default: crop)"
        )
    group.add_argument(
        "--fs", type=_whole, metavar="N", help="motion: smaller moves more; with the 256 model, larger does"
    )
    group.add_argument(
        "--motion",
        metavar="WEIGHTS",
        help="weights inside the UNet: 'middle 2, ends 1, strength 1.5, temperature 0.8, beside 0.5'",
    )
    if not with_image:
        group.add_argument("--motion-scale", type=_number, metavar="S", help="how much T2V-Turbo-v2 moves")
    group.add_argument("--eta", type=_number, metavar="E", help="0: no new noise between steps, 1: most")
    group.add_argument("--rescale", type=_number, metavar="R", help="0 to 1: against overexposure by a strong --cfg")
    group.add_argument("--spacing", metavar="HOW", help="of the timesteps: uniform, uniform_trailing")


def _add_start(parser: argparse.ArgumentParser, maskable: bool) -> None:
    group = parser.add_argument_group("where it starts from")
    group.add_argument("--start-step", type=_whole, metavar="M", help="leave out timesteps from M on; 940 moves more")
    group.add_argument(
        "--noise", metavar="KIND", help="what frames share: plain, 'mixed 1', 'progressive 1', 'residual 0.5'"
    )
    group.add_argument(
        "--noise-path", metavar="PATH", help="moves what they share: 'pan 0.25 0, zoom 1.2, turn 10, ease-in-out'"
    )
    group.add_argument(
        "--freeinit", type=_whole, metavar="N", help="begin again N times from the clip's low frequencies"
    )
    group.add_argument("--initial-noise", metavar="FILE", help="an Analytic-Init file, for --start-step")
    if maskable:
        group.add_argument("--strength", type=_number, metavar="S", help="below 1: stay nearer to the still image")
        group.add_argument("--mask", metavar="IMAGE", help="white stays as still as the image")


def _add_camera(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the way (one of --camera and --guide)")
    way = group.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--camera", metavar="MOTION", help="'orbit left', 'pan right + zoom in', or lines such as '1: yaw 10, z 0.2'"
    )
    way.add_argument("--guide", metavar="FILE", help="a video or a folder of views, one a frame, black where unknown")
    group.add_argument("--depth", metavar="FILE", help="a depth map of IMAGE (default: IMAGE is a plane)")
    group.add_argument(
        "--depth-kind", default="disparity", metavar="KIND", help="disparity: white is near; distance: white is far"
    )
    group.add_argument(
        "--depth-range", type=_number, default=8.0, metavar="R", help="farthest by nearest distance (default: 8)"
    )
    group.add_argument(
        "--field-of-view", type=_number, default=55.0, metavar="DEG", help="of IMAGE's longer side (default: 55)"
    )
    group.add_argument("--easing", default="smooth", metavar="HOW", help="smooth, linear, in, out (default: smooth)")
    group.add_argument("--amount", type=_number, default=1.0, metavar="A", help="of the whole motion (default: 1)")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)\s*[xX*]\s*(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height, such as 512x320")
    return int(match[1]), int(match[2])
