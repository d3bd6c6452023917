"""`dynamicrafter train RECIPE`: a run in a folder, told about on the way, safe to stop with Ctrl-C at any time."""

import argparse
import shlex
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..atomic import only_here
from ..errors import InputError
from .recipe import read_recipe


def add_arguments(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a model, or a LoRA, from a recipe",
        description="Train from a recipe. The same command resumes a run that was stopped or killed.",
    )
    parser.add_argument("recipe", help="a JSON file, or a recipe in the package: embedded, few_steps, pictures, tiny")
    parser.add_argument("--output", "-o", type=Path, help="the run's folder (default: train-NAME)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument("--minutes", type=float, help="stop after this many minutes, with everything saved")
    parser.add_argument("--split", action="store_true", help="write the weights again, as one file per part")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0: done; 3: stopped before the end, to be resumed."""
    from ..checkpoints.conversion import convert
    from ..devices import reused_memory
    from .trainer import Trainer

    recipe = read_recipe(arguments.recipe)
    if arguments.split and recipe.lora is not None:
        raise InputError("A LoRA has no parts to split; leave --split out.")
    folder = arguments.output or Path(f"train-{recipe.name}")
    command = shlex.join(["dynamicrafter", "train", arguments.recipe])

    def tell(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    trainer = Trainer(recipe, folder, arguments.device, None if arguments.quiet else tell, command)

    def stop(*_: object) -> None:
        trainer.stopped = True
        tell("Stopping after this step; the same command resumes from here.")

    previous = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with only_here(folder) if trainer.ranks.first else nullcontext(), reused_memory(trainer.device):
            result = trainer.run(arguments.minutes)
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
        trainer.ranks.close()
    weights = result or trainer.so_far
    if arguments.split and weights is not None:
        convert(weights, weights, dtype="keep", layout="split", overwrite=True)
    if result is not None:
        sys.stdout.write(f"{result}\n")
        return 0
    done = trainer.position.stage >= len(recipe.stages)
    if not done and trainer.ranks.first:
        so_far = f", weights so far in {trainer.so_far}" if trainer.so_far else ""
        sys.stdout.write(f"stopped at step {trainer.total} of {recipe.total_steps()}; state in {folder}{so_far}\n")
    return 0 if done else 3


def main(argv: list[str] | None = None) -> int:
    """`python -m dynamicrafter_core.training.command train RECIPE`, also what torchrun starts."""
    parser = argparse.ArgumentParser(prog="dynamicrafter")
    add_arguments(parser.add_subparsers(required=True))
    arguments = parser.parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
