"""A device whose memory others have taken, and what the command line does there."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def leave(device: torch.device, gib: float | None) -> Iterator[None]:
    """The device with all but so much memory taken away; a CPU is left as it is."""
    if gib is None or device.type != "cuda":
        yield
        return
    free = torch.cuda.mem_get_info(device)[0]
    ballast = torch.empty(max(0, free - int(gib * 2**30)), dtype=torch.uint8, device=device)
    try:
        yield
    finally:
        del ballast
        torch.cuda.empty_cache()


def commands(
    device: torch.device, rehearse: bool, seconds_left: Callable[[], float]
) -> Iterator[tuple[str, str, bool | None]]:
    """A clip with little memory, the same as with all of it, and a sentence where it is too little."""

    def animate(name: str, gib: float | None, size: int) -> tuple[bytes | None, str]:
        """The clip, or None, and how the command ended."""
        made = folder / f"{name}.gif"
        command = [sys.executable, "-m", "dynamicrafter_core", "animate", str(image), "zoom in", "-o", str(made)]
        command += ["--steps", "2", "--seed", "1", "--size", f"{size}x{size}", "--device", str(device)]
        with leave(device, gib):
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(1, seconds_left()))
        last = ended.stderr.strip().splitlines()[-1:] if ended.returncode else []
        said = ": ".join([f"status {ended.returncode}", *(line[:120] for line in last)])
        return (made.read_bytes() if ended.returncode == 0 else None), said

    if device.type == "cuda":
        torch.zeros(1, device=device)  # this process's own share, before the rest is counted
    with tempfile.TemporaryDirectory() as place:
        folder, image = Path(place), Path(place, "image.png")
        Image.linear_gradient("L").convert("RGB").save(image)
        wide = 64 if rehearse else 256
        expected, _ = animate("free", None, wide)
        made, said = animate("little", 2.0, wide)
        yield "animate, 2 GiB left", said, made is not None and made == expected
        if rehearse:
            yield "animate, too little left", "only on a device: a CPU takes what the system has", None
        else:
            made, said = animate("none", 0.75, 2048)
            yield "animate 2048 x 2048, 0.75 GiB left", said, made is None and "ran out of memory" in said
