"""`python -m benchmarks.behaviour [CHECKPOINT]`: does the model do what is said of it? A table, and exit code 1 where it does not.

Pictures and prompts are held out: procedural ones, drawn from seeds that training never uses, and real ones of the points "pictures"
and "things", from ComfyUI's installed template packages and an installed emoji font. The default is the embedded model.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from dynamicrafter_core.devices import reused_memory
from dynamicrafter_core.diffusion.reuse import PRESETS
from dynamicrafter_core.pipeline.pipeline import EMBEDDED
from dynamicrafter_core.training.motions import MOTIONS

from . import cost, latents, pictures, points, things
from .subject import Row, Subject, tell

POINTS = {
    "autoencoder": points.autoencoder,
    "motion": points.motion,
    "silence": points.silence,
    "faithfulness": points.faithfulness,
    "fs": points.fs,
    "cfg_text": points.cfg_text,
    "cfg_image": points.cfg_image,
    "lambda": points.strength,
    "eta": points.eta,
    "steps": points.steps,
    "ends": points.ends,
    "pictures": pictures.pictures,
    "things": things.things,
    "latents": latents.latents,
    "speed": cost.speed,
    "replay": cost.replay,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.behaviour", description=__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path, help="default: the embedded model")
    parser.add_argument("--only", nargs="+", choices=POINTS, default=list(POINTS), help="some of the points")
    parser.add_argument(
        "--count",
        type=int,
        default=210,
        help="pairs of picture and prompt for the motion (210); no other point has more",
    )
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, help="kinds of motion (those it was taught)")
    parser.add_argument("--steps", type=int, help="of sampling (the model's own)")
    parser.add_argument("--cfg", type=float, help="text scale (the model's own)")
    parser.add_argument("--speed", choices=PRESETS, default="exact", help="preset of what is computed (exact)")
    parser.add_argument("--eta", type=float, default=1.0, help="of DDIM (1); a few-step LoRA is made for 0")
    parser.add_argument("--lora", type=Path, help="a LoRA that the trainer made, merged into the checkpoint")
    parser.add_argument("--batch", type=int, default=16, help="clips at once (16)")
    parser.add_argument("--pictures", default="", help="a file of packed pictures (the one in the cache)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    options = parser.parse_args()

    path = options.checkpoint or min(EMBEDDED.glob("*.safetensors"), default=EMBEDDED / "model.safetensors")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[options.dtype]
    device = torch.device(options.device)
    subject = Subject(
        path,
        device,
        dtype,
        options.count,
        options.batch,
        options.motions,
        options.steps,
        options.cfg,
        speed=PRESETS[options.speed],
        pack=options.pictures,
        lora=options.lora,
        eta=options.eta,
    )
    rows: list[Row] = []
    for name in options.only:
        started = time.monotonic()
        with reused_memory(device):
            found = POINTS[name](subject)
        rows += found
        tell(name, started)
        sys.stdout.write("".join(_line(row) for row in found))
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    missed = [row for row in rows if row.right is False]
    judged = [row for row in rows if row.right is not None]
    sys.stdout.write(f"{len(judged) - len(missed)} of {len(judged)} are as wanted\n")
    return 1 if missed else 0


def _line(row: Row) -> str:
    mark = {True: "yes", False: "NO", None: ""}[row.right]
    return f"{row.point}  {row.what:<62} {row.value:>9.4g}  {row.wanted:<22} {mark}\n"


if __name__ == "__main__":
    sys.exit(main())
