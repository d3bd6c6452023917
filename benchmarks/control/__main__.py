"""`python -m benchmarks.control [CHECKPOINT]`: what each control does to clips of held-out real pictures, and what it costs.

`--write` puts the table into docs/control.md, with `--only` some of its rows. The default is the embedded model; pictures are those of
ComfyUI's installed template packages that no training saw.
"""

import argparse
import re
import sys
import time
from pathlib import Path

import torch

from benchmarks.behaviour.subject import Subject, tell
from dynamicrafter_core.pipeline.pipeline import EMBEDDED

from . import camera, guidance, motion, noise, references, strokes
from .measures import Bench, Measure, Row

DOCUMENT = Path(__file__).parents[2] / "docs" / "control.md"
CONTROLS: dict[str, Measure] = {
    "camera": camera.in_noise,
    "shared": noise.shared,
    "freeinit": noise.freeinit,
    "lambda": motion.lambdas,
    "strength": motion.strength,
    "temperature": motion.temperature,
    "first_frame": motion.first_frame,
    "causal": motion.causal,
    "guidance_curves": guidance.curves,
    "guidance_interval": guidance.interval,
    "projected_guidance": guidance.projection,
    "negative_image": references.negative,
    "references": references.references,
    "camera_lead": camera.leading,
    "strokes": strokes.strokes,
    "brush": strokes.brush,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control", description=__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path, help="default: the embedded model")
    parser.add_argument("--only", nargs="+", choices=CONTROLS, default=list(CONTROLS), help="some of the controls")
    parser.add_argument("--count", type=int, default=6, help="clips under each setting (6)")
    parser.add_argument("--cases", type=int, default=40, help="camera paths, and strokes (40)")
    parser.add_argument("--steps", type=int, default=8, help="of sampling (8)")
    parser.add_argument("--batch", type=int, default=8, help="clips at once (8)")
    parser.add_argument("--pictures", default="", help="a file of packed pictures (the one in the cache)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--write", action="store_true", help="put the table into docs/control.md")
    options = parser.parse_args()

    path = options.checkpoint or min(EMBEDDED.glob("*.safetensors"), default=EMBEDDED / "model.safetensors")
    device, started = torch.device(options.device), time.monotonic()
    subject = Subject(
        path, device, torch.float32, options.count, options.batch, steps=options.steps, pack=options.pictures
    )
    bench = Bench(subject, options.count, options.cases)
    tell("ready", started)
    rows: list[Row] = []
    for name in options.only:
        started = time.monotonic()
        rows += CONTROLS[name](bench)
        tell(name, started)
    text = table(rows, options.count, options.steps)
    sys.stdout.write(text)
    if options.write:
        parts = re.split(r"(?<=<!-- table -->\n)|(?=<!-- end -->)", DOCUMENT.read_text(encoding="utf-8"))
        DOCUMENT.write_text("".join((parts[0], merged(parts[1], text), parts[-1])), encoding="utf-8")
    return 0


def merged(old: str, new: str) -> str:
    """The new rows in the places of the old ones of their names, or behind them: --only measures some of the controls."""
    rows = {row.split("|")[1]: row for table in (old, new) for row in table.splitlines() if row.startswith("|")}
    return "\n".join([new.splitlines()[0], "", *rows.values()]) + "\n"


def table(rows: list[Row], count: int, steps: int) -> str:
    lines = [f"{count} clips of held-out pictures under each setting, {steps} steps.", ""]
    lines += ["| control | paper | effect | cost |", "|---|---|---|---|"]
    lines += [f"| {row.control} | {row.paper} | {row.effect} | {row.cost:.2f} x |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
