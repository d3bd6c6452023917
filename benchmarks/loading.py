"""Reading a checkpoint: seconds and peak memory, each way in a process of its own.

The file has the keys, shapes and size of DynamiCrafter 512 in fp16 (`full`), or its autoencoder's alone (`thin`), and no
content: it is sparse, so it costs no disk.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from .measure import Row

SIZES = {"thin": "first_stage_model.", "full": ""}  # the keys that are written begin so
VARIANT = "dynamicrafter_512"


def rows(size: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{VARIANT}.safetensors"
        write(path, SIZES[size])
        total = path.stat().st_size
        found = {way: _in_own_process(way, path) for way in ("ours", "plain")}
    (ours, our_peak), (plain, plain_peak) = found["ours"], found["plain"]
    what = f"load a checkpoint, peak memory {our_peak / total:.2f} x the file"
    against = f"load_file, construct, copy: {plain_peak / total:.2f} x the file"
    return [Row(what, f"{total / 1e9:.2f} GB", ours, against, plain)]


def write(path: Path, prefix: str) -> None:
    """A safetensors file of zeros: the table of contents, then a hole."""
    from dynamicrafter_core.families import FAMILIES

    table, end = {}, 0
    for key, shape in FAMILIES[VARIANT].checkpoint_shapes().items():
        if key.startswith(prefix):
            start, end = end, end + 2 * math.prod(shape)
            table[key] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)


def _in_own_process(way: str, path: Path) -> tuple[float, float]:
    """Seconds, and the bytes by which loading raised the peak of the process."""
    command = [sys.executable, "-m", "benchmarks.loading", way, str(path)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told["seconds"], told["bytes"]


def _memory(figure: str) -> int:
    """Linux's own account: getrusage would count what the parent held when it made this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(figure))


def _measure(way: str, path: Path) -> dict[str, float]:
    from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
    from dynamicrafter_core.models.parts import build

    checkpoint = load_checkpoint(path, variant=VARIANT) if way == "ours" else None
    plain = load_checkpoint(path, variant=VARIANT)  # for its configs; nothing is read
    before, start = _memory("VmRSS"), time.perf_counter()
    if checkpoint is not None:
        modules = [checkpoint.load(part) for part in checkpoint.parts]
    else:
        from safetensors.torch import load

        tensors = load(path.read_bytes())
        modules = []
        for part, config in plain.configs.items():
            module = build(config, dtype=torch.half)
            names = plain.sources[part].names
            module.load_state_dict({key: tensors[names[key]] for key in module.state_dict()})
            modules.append(module)
    for module in modules:  # a page at a time, so that what is merely mapped counts too
        for parameter in module.parameters():
            parameter.detach().flatten()[::2048].sum()
    return {"seconds": time.perf_counter() - start, "bytes": _memory("VmHWM") - before}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))
