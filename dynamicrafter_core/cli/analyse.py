"""`dynamicrafter analyse`: what lambda does by part of the UNet, and what noise on its layers breaks, as sheets and figures."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import add_model, size, whole
from .terminal import Bars, notes

if TYPE_CHECKING:
    from ..analysis.trials import Trial

KINDS = ("lambda", "weights")
DESCRIPTION = """\
Make the same clip repeatedly with one thing changed each time, and show the effect: the weight of the image relative
to the text (lambda) in the whole UNet, in its middle or its ends, or in half of the run; or noise on the weights of its
spatial or temporal layers. Writes a sheet of frames with curves of motion and of likeness to the first frame
(NAME-lambda.png, NAME-weights.png), and the figures as JSON beside it.
"""
EXAMPLE = """\
example:
  dynamicrafter analyse photo.jpg "a boat on the sea, waves" -m dynamicrafter_512.ckpt --steps 25
"""


def add_arguments(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "analyse",
        help="show what lambda and the layers of a model do",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", metavar="IMAGE", help="PNG, JPEG, WebP, ...")
    parser.add_argument("prompt", metavar="PROMPT", help="what happens; may be empty")
    add_model(parser)
    parser.add_argument("-o", "--out", metavar="NAME", help="name of the files, without a suffix (default: IMAGE's)")
    parser.add_argument("--only", choices=KINDS, help="one of the two sheets (default: both)")
    parser.add_argument("--steps", type=whole, metavar="N", help="denoising steps (default: the model's)")
    parser.add_argument("--seed", type=whole, default=123, metavar="N", help="seed of all clips (default: 123)")
    parser.add_argument("--size", type=size, metavar="WxH", help="multiples of 64 (default: the model's)")
    parser.add_argument("--quiet", action="store_true", help="no bar, no notes: errors only")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..analysis.sheet import draw
    from ..analysis.trials import AMOUNTS, LAMBDAS, LAYERS, PARTS, try_lambda, try_weights
    from ..atomic import check_writable, written_whole
    from ..pipeline.pipeline import Pipeline

    name = Path(arguments.out or Path(arguments.image).stem)
    kinds = [arguments.only] if arguments.only else list(KINDS)
    if name.suffix:
        raise InputError(f"output {name} has a suffix; give a name without one, to which -lambda.png is added.")
    for kind in kinds:
        check_writable(Path(f"{name}-{kind}.png"))
    width, height = arguments.size or (None, None)
    options = {"steps": arguments.steps, "seed": arguments.seed, "width": width, "height": height}
    bars = Bars(arguments.quiet)
    counts = {"lambda": len(PARTS) * len(LAMBDAS), "weights": len(LAYERS) * len(AMOUNTS)}
    with notes(arguments.quiet):
        pipeline = Pipeline(
            arguments.model,
            arguments.variant,
            arguments.device,
            arguments.dtype,
            extra=arguments.extra,
            keep_loaded=True,
        )
        for kind in kinds:
            trials: list[Trial] = []
            try:
                bars(kind, 0, counts[kind])
                for trial in (try_lambda if kind == "lambda" else try_weights)(
                    pipeline, arguments.image, arguments.prompt, options
                ):
                    trials.append(trial)
                    bars(kind, len(trials), counts[kind])
            finally:
                bars.close()
            sheet = Path(f"{name}-{kind}.png")
            with written_whole(sheet) as part:
                draw(trials, f"{pipeline.path.name}, {arguments.prompt!r}, {kind}").save(part, "PNG")
            with written_whole(sheet.with_suffix(".json")) as part:
                part.write_text(json.dumps([figures(trial) for trial in trials], indent=1))
            if not arguments.quiet:
                sys.stdout.write(f"{sheet}: {len(trials)} clips; figures in {sheet.with_suffix('.json')}\n")
    return 0


def figures(trial: "Trial") -> dict[str, Any]:
    return {key: value for key, value in vars(trial).items() if key != "frames"}
