"""`python -m benchmarks.speed [CHECKPOINT]`: what the speed presets save, how far from the full run they lead, and what else was tried.

`--write` puts the tables into docs/speed.md, with `--only` some of them. The default is the embedded model; pictures are those of ComfyUI's
installed template packages that no training saw. `full` times a random UNet of a released size.
"""

import argparse
import re
import sys
from pathlib import Path

import torch

from benchmarks.behaviour.subject import Subject, tell
from benchmarks.measure import machine
from benchmarks.models import SIZES, config, inputs
from dynamicrafter_core.diffusion.reuse import PRESETS
from dynamicrafter_core.pipeline.pipeline import EMBEDDED

from .clips import HEADER, Bench, scores, table
from .tried import everything
from .work import BRANCHES, full_size, outer_share, saved, text_share

DOCUMENT = Path(__file__).parents[2] / "docs" / "speed.md"
RELEASED = "512"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def presets(options: argparse.Namespace) -> str:
    bench = make_bench(options, options.count)
    steps, share = bench.subject.dials.steps, embedded_share(bench)
    made = bench.in_turns([{"speed": speed} for speed in PRESETS.values()])
    rows = []
    for name, speed, each in zip(PRESETS, PRESETS.values(), made, strict=True):
        passes, whole, work = saved(speed, steps, share)
        rows.append(
            [
                name,
                f"{BRANCHES * passes}",
                f"{BRANCHES * whole}",
                f"{work:.2f} x",
                *scores(each, made[0], bench.pictures),
            ]
        )
    header = ["preset", "network passes", "of these, whole", "work reduction", *HEADER]
    return f"{bench.count} clips of held-out pictures, {steps} steps.\n\n{table(header, rows)}"


def tried(options: argparse.Namespace) -> str:
    bench = make_bench(options, options.tried)
    (given,) = bench.given
    bench.make(given, steps=1)  # pays for what later ones find ready
    exact = bench.make(given)
    rows = [["the full run", *scores(exact, exact, bench.pictures)]]
    for name, within, dials in everything(bench, bench.subject.dials.steps):
        tell(name)
        rows.append([name, *scores(bench.make(given, within, **dials), exact, bench.pictures)])
    said = (
        f"{bench.count} clips of held-out pictures. At {RELEASED}, a pass without the inner blocks takes {released_share():.0%} of the operations of a "
        f"whole pass (embedded model: {embedded_share(bench):.0%}). The keys and values of text and image take {text_share(RELEASED):.1%}, so "
        "computing them once per clip would save no more than that."
    )
    return f"{said}\n\n{table(['tried', *HEADER], rows)}"


def full(options: argparse.Namespace) -> str:
    said, rows = full_size(options.size, DTYPES[options.dtype], options.repeat)
    header = ["preset", "network passes", "of these, whole", "work reduction", "speedup"]
    return f"{machine(torch.device('cpu'))}\n\n{said}\n\n{table(header, rows)}"


def make_bench(options: argparse.Namespace, count: int) -> Bench:
    path = options.checkpoint or min(EMBEDDED.glob("*.safetensors"), default=EMBEDDED / "model.safetensors")
    device = torch.device(options.device)
    return Bench(Subject(path, device, torch.float32, count, options.batch, pack=options.pictures), count)


def embedded_share(bench: Bench) -> float:
    model = bench.subject.model
    figures, side = model.part("unet").config, model.family.height // model.part("autoencoder").config.size_factor
    meta = torch.device("meta")
    given = (
        torch.randn(1, figures.in_channels, bench.subject.frames, side, side, device=meta),
        torch.full((1,), 500, device=meta),
        torch.randn(BRANCHES, 77, figures.context_dim, device=meta),
        torch.randn(BRANCHES, bench.subject.frames, 16, figures.context_dim, device=meta),
        torch.full((1,), 10, device=meta),
    )
    return outer_share(figures, given)


def released_share() -> float:
    return outer_share(config(RELEASED), inputs(RELEASED, BRANCHES, torch.float32, torch.device("meta")))


TABLES = {"presets": presets, "full": full, "tried": tried}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path, help="default: the embedded model")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="some of the tables")
    parser.add_argument("--count", type=int, default=36, help="clips under each preset (36)")
    parser.add_argument("--tried", type=int, default=6, help="clips under each other setting (6)")
    parser.add_argument("--batch", type=int, default=6, help="clips at once (6)")
    parser.add_argument("--size", choices=SIZES, default="256", help="of the random UNet (256)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the random UNet (fp32)")
    parser.add_argument("--repeat", type=int, default=3, help="passes of the random UNet (3)")
    parser.add_argument("--pictures", default="", help="a file of packed pictures (the one in the cache)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/speed.md")
    options = parser.parse_args()
    options.tried = min(options.tried, options.batch)
    for name in options.only:
        text = TABLES[name](options)
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        if options.write:
            write(name, text)
    return 0


def write(name: str, text: str) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    replaced = re.sub(
        f"(?<={re.escape(start)}).*?(?={re.escape(end)})", lambda _: text, document, count=1, flags=re.DOTALL
    )
    DOCUMENT.write_text(replaced, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
