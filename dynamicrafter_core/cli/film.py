"""`dynamicrafter film`: a script becomes a film, told about take by take, safe to stop and to start again."""

import argparse
import sys
from pathlib import Path
from typing import Any

from .batch import pair
from .terminal import Bars, notes

DESCRIPTION = """\
Make a film of several shots from a script: a .json file, or a text file with a line for each shot. Finished takes are
kept beside the film: the same command resumes a film that was stopped, and after a change to the script only the
affected takes are made again.
"""
EXAMPLE = """\
example:
  dynamicrafter film story.txt -o film.mp4 -m dynamicrafter_512.ckpt
  where story.txt holds lines of picture, prompt, length, and transition to the next shot:
    harbour.jpg | a boat leaves the harbour | 4 s | dissolve
                | it sails into the evening | 2 s
"""


def add_arguments(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "film",
        help="make a film of several shots from a script",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("script", metavar="SCRIPT", help="a .json or a text file")
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="film.mp4, film.gif, or film (a folder of PNG frames) (default: SCRIPT.mp4)"
    )
    parser.add_argument("-m", "--model", metavar="FILE", help="model, if SCRIPT names none (default: the built-in one)")
    parser.add_argument(
        "--morph-model", metavar="FILE", help="model for morphs, if --model cannot go from picture to picture"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="any other key that the script does not give, such as steps=25; may be repeated",
    )
    parser.add_argument("--takes", metavar="FOLDER", help="folder for the takes (default: FILE.takes)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument("--check", action="store_true", help="check the script and make nothing")
    parser.add_argument("--quiet", action="store_true", help="no bars, no notes: errors only")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..film.film import make_film, open_models, plan_film
    from ..film.script import read_script
    from ..media.saving import check_target

    defaults = dict(pair(text) for text in arguments.settings)
    defaults |= {key: value for key in ("model", "morph_model") if (value := getattr(arguments, key)) is not None}
    script = read_script(arguments.script, defaults)
    target = check_target(arguments.out or f"{Path(arguments.script).stem}.mp4")
    bars = Bars(arguments.quiet)
    with notes(arguments.quiet):
        pipeline, morph = open_models(script, arguments.device)
        if arguments.check:
            takes, fps = plan_film(pipeline, script, morph)
            frames = sum(take.frames - take.dissolve for take in takes)
            sys.stdout.write(f"{len(script.shots)} shots, {len(takes)} takes, {frames / fps:.1f} s\n")
            return 0
        try:
            film = make_film(pipeline, script, target, morph=morph, takes=arguments.takes, on_progress=bars)
        finally:
            bars.close()
    if not arguments.quiet:
        there = f", {film.takes - film.made} of them already there" if film.made < film.takes else ""
        sys.stdout.write(
            f"{film.path}: {film.frames} frames, {film.frames / film.fps:.1f} s, of {film.takes} takes{there}\n"
        )
    return 0
