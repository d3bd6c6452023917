"""The command line: `dynamicrafter animate photo.jpg "waves on the sea" -m dynamicrafter_512.ckpt`.

Exit codes: 0 done, 2 something given is wrong (one sentence on stderr, nothing written), 130 interrupted.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from .. import __version__
from ..errors import InputError, one_line
from ..training.command import add_arguments as add_training
from .analyse import add_arguments as add_analysis
from .batch import add_arguments as add_batch
from .film import add_arguments as add_film
from .options import add_camera, add_look, add_model, add_output, add_start, add_target, whole

DESCRIPTION = """\
Turn a still image and a prompt into a short video, with the released checkpoints
of DynamiCrafter and its family (VideoCrafter, ToonCrafter).
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

'dynamicrafter COMMAND --help' shows what a command takes.
"""


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
    animate.add_argument("image", metavar="IMAGE", help="PNG, JPEG, WebP, ... (the first frame of a GIF)")
    interpolate = command(
        "interpolate",
        "A B PROMPT",
        "turn one image into another",
        'dynamicrafter interpolate a.png b.png "a flower opens" -m dynamicrafter_512_interp.ckpt',
    )
    interpolate.add_argument("image", metavar="A", help="the first frame")
    interpolate.add_argument("last", metavar="B", help="the last frame")
    keyframes = command(
        "keyframes",
        "PICTURE[@FRAME[:STRENGTH]] ...",
        "go through several pictures, each at its own frame",
        'dynamicrafter keyframes a.png b.png@24 c.png@60 --prompt "a flower opens" -m dynamicrafter_512_interp.ckpt',
    )
    keyframes.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="at FRAME, counted from 0 (default: 15 after the previous one); STRENGTH: the share of the run in which "
        "the model sees it",
    )
    keyframes.add_argument(
        "--prompt",
        action="append",
        metavar="PROMPT",
        help="what happens; one for all stretches between pictures, or one for each, in order",
    )
    loop = command(
        "loop",
        "IMAGE PROMPT",
        "animate an image so that the end meets the beginning",
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
        "extend a video by a clip for each prompt",
        'dynamicrafter extend boat.mp4 "waves" "the sun sets" -m dynamicrafter_512.ckpt -o longer.mp4',
    )
    extend.add_argument("video", metavar="VIDEO", help="a video, or a folder of pictures")
    generate = command(
        "generate",
        "PROMPT",
        "make a video from a prompt alone",
        'dynamicrafter generate "a panda" -m videocrafter2.ckpt',
    )
    for maker in (animate, interpolate, keyframes, loop, fly, extend, generate):
        if maker is not keyframes:
            prompt = maker.add_argument("prompt", metavar="PROMPT", help="what happens; may be empty")
        if maker is extend:
            prompt.nargs = "+"
        if maker is fly:
            prompt.nargs, prompt.required, prompt.default = "?", False, "Rotating view of a scene"
        add_model(maker)
        add_output(maker)
        add_look(maker, with_image=maker is not generate)
        add_start(maker, maskable=maker is animate)

    add_camera(fly)
    group = extend.add_argument_group("the join")
    group.add_argument(
        "--keep", type=whole, default=1, metavar="K", help="frames that carry the motion over, 1 to 4 (default: 1)"
    )
    group.add_argument(
        "--image", metavar="IMAGE", help="image for the context, against drift (default: the first frame of VIDEO)"
    )
    group.add_argument("--no-match", action="store_true", help="leave brightness and contrast at the join as they are")
    group.add_argument(
        "--hold-colours",
        action="store_true",
        help="bring new frames back to the colours of IMAGE; for scenes whose light does not change",
    )
    group.add_argument("--only-new", action="store_true", help="write only the new frames, without those of VIDEO")

    convert = command(
        "convert",
        "SOURCE TARGET",
        "make a checkpoint smaller and safe to load",
        "dynamicrafter convert model.ckpt model.safetensors --dtype fp16",
    )
    convert.add_argument("source", metavar="SOURCE", help="a .ckpt or .safetensors file")
    add_target(convert)
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
    add_target(merge)
    merge.add_argument("--variant", default="auto", metavar="NAME", help="which released model FIRST is")

    inspect = command(
        "inspect", "FILE", "show what a checkpoint file is, and why", "dynamicrafter inspect model.safetensors --json"
    )
    inspect.add_argument("file", metavar="FILE")
    inspect.add_argument("--variant", default="auto", metavar="NAME", help="check the file against this released model")
    inspect.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_film(commands)
    add_batch(commands)
    add_analysis(commands)
    add_training(commands)
    return parser
