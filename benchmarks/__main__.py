"""`python -m benchmarks`: what the core costs on this machine, beside the machine's ceiling and the plain alternatives.

The default takes a few minutes on two cores; `--size 256`, `512` and `1024` are the released sizes.
"""

import argparse
import sys
from pathlib import Path

import torch

from dynamicrafter_core.devices import computes_in_bf16, reused_memory

from . import layers, loading, models, vae
from .measure import machine, matmul_ceiling, table

PARTS = {"unet": models.forward, "guided": models.guided, "layers": layers.rows, "vae": vae.rows}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
README = Path(__file__).with_name("README.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--size", nargs="+", choices=models.SIZES, default=["tiny"], help="latent sizes (default: tiny)"
    )
    parser.add_argument(
        "--dtype", nargs="+", choices=DTYPES, help="default: fp32, and bf16 where the device computes in it"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the median is reported (default: 3)")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="what to measure (default: all)")
    parser.add_argument("--load", choices=[*loading.SIZES, "none"], default="thin", help="checkpoint (default: thin)")
    parser.add_argument("--write", action="store_true", help="add the tables to benchmarks/README.md")
    options = parser.parse_args()

    device = torch.device(options.device)
    report = [f"### {machine(device)}"]
    with torch.inference_mode(), reused_memory(device):
        for name in options.dtype or ["fp32", "bf16"][: 1 + computes_in_bf16(device)]:
            ceiling = matmul_ceiling(DTYPES[name], device)
            found = []
            for size in options.size:
                for part in options.parts:
                    sys.stderr.write(f"{name} {size}: {part}\n")
                    found += PARTS[part](size, DTYPES[name], device, ceiling, options.repeat)
            report.append(f"{name}, peak of matrix products: {ceiling / 1e9:.0f} GFLOP/s\n\n{table(found)}")
    if options.load != "none":
        report.append(f"Loading on the CPU, fp16\n\n{table(loading.rows(options.load))}")
    text = "\n\n".join(report) + "\n"
    sys.stdout.write(text)
    if options.write:
        README.write_text(README.read_text() + "\n" + text)


if __name__ == "__main__":
    main()
