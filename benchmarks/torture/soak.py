"""Hundreds of prompts in one real ComfyUI: any of the example workflows, with settings, pictures and seeds by chance.

Some are cancelled, some are wrong, some are asked for twice. Memory must be flat, and what comes out is what a fresh server makes.
"""

import copy
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from .api import WORKFLOWS, ask, attempt, unlinked, wrong_prompt
from .runner import ROOT, Found, Tally

WHAT = (
    "many prompts in one ComfyUI: random workflows, settings and pictures, cancelled and invalid prompts; "
    "memory, and results against a fresh server"
)
ARGUMENTS = ("--cpu", "--use-pytorch-cross-attention")
KINDS = (*["right"] * 6, "again", "cancelled", "wrong", "wrong")
FREED = 0.25  # of the prompts are followed by what the page's button for memory asks for
FLAT = 0.02  # memory may grow by this
WARM = 100  # prompts, before which the host and its libraries still load what they keep
CHECKED = 20  # results to make again in a fresh server
PATIENCE = 120.0  # seconds for a prompt, on a busy machine
MEGABYTE = 2**20
TEXTS = ("", "waves on the sea", "the camera zooms in", "a boat, (wind:1.3), clouds", "雨が降る", "dark " * 30)
SAMPLERS = ("DynamiCrafterSampler", "KSampler", "DynamiCrafterSchedule", "DynamiCrafterFilm")
SCRIPTS = (
    "1 | zoom in | 1 s | dissolve 0.5 s\n2 | it gets dark | 1 s",
    "1 | | 0 s | morph 1 s\n2 | | 0 s",
    "2 | pan left | 1 s",
)


@dataclass
class Memory:
    """Bytes resident, by the number of prompts so far."""

    used: list[tuple[int, int]] = field(default_factory=list)  # after each prompt, with all that the host keeps
    freed: list[tuple[int, int]] = field(
        default_factory=list
    )  # models and results let go of, history cleared, collected

    def latest(self) -> str:
        """Medians of the last few."""
        return " and ".join(
            f"{statistics.median([held for _, held in samples[-count:]] or [0]) / MEGABYTE:.1f} MB"
            for samples, count in ((self.used, 25), (self.freed, 6))
        )

    def growth(self, samples: list[tuple[int, int]]) -> tuple[float, float]:
        """Medians of the third tenth of the run and of the last, in megabytes; NaN where there is no sample."""
        prompts = self.used[-1][0] if self.used else 0
        early, late = (
            statistics.median([held for number, held in samples if start <= number / prompts <= end] or [math.nan])
            for start, end in ((0.2, 0.3), (0.9, 1.0))
        )
        return early / MEGABYTE, late / MEGABYTE

    def fault(self) -> str:
        if not self.used or self.used[-1][0] < WARM:
            return ""
        early, late = self.growth(self.freed)
        return f"memory grows: from {early:.0f} to {late:.0f} MB" if late > early * (1 + FLAT) else ""

    def __str__(self) -> str:
        words = ("with all that the host keeps", "after /free")
        growths = (self.growth(self.used), self.growth(self.freed)) if self.used else ()
        return "; ".join(
            f"{word}: {early:.1f} MB, then {late:.1f} MB ({late / early - 1:+.1%})"
            for word, (early, late) in zip(words, growths, strict=False)
        )


@dataclass(frozen=True)
class Turn:
    number: int
    kind: str
    name: str  # of the workflow
    prompt: Any
    loose: bool = False  # a constant stands where a link belongs


class Soak:
    def __init__(self, prompts: int, seed: int, on_finding: Callable[[Found], object]) -> None:
        self.prompts, self.seed, self.on_finding = prompts, seed, on_finding
        self.tally, self.memory = Tally(), Memory()
        self.kinds: list[str] = []  # of each prompt
        self.compared: list[int] = []  # those made again in a fresh server
        self.made: dict[int, tuple[Turn, list[bytes]]] = {}  # right ones, and what came out

    def run(self, say: Callable[[str], object]) -> Tally:
        sys.path.append(str(ROOT / "tools"))
        import comfyui
        import hosts
        import standins

        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            base, fresh = Path(folder) / "base", Path(folder) / "fresh"
            standins.write_all(base)
            draw_pictures(base / "input")
            for other in ("models", "input"):
                shutil.copytree(base / other, fresh / other)
            link_probe(base, comfyui.link)
            right = {
                path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(WORKFLOWS.glob("*.json"))
            }
            with comfyui.ComfyUI(hosts.find_host(), base, *ARGUMENTS) as server:
                for number in range(self.prompts):
                    self._turn(server, self._choose(number, right))
                    if server.process.poll() is not None:
                        break
                    if (number + 1) % 50 == 0:
                        say(f"  {number + 1} prompts; memory {self.memory.latest()}\n")
            with comfyui.ComfyUI(hosts.find_host(), fresh, *ARGUMENTS) as server:
                self._compare(server)
            if fault := self.memory.fault():
                self._count(self.prompts, "finding", fault)
        self.tally.seconds = time.monotonic() - begun
        say(f"  {len(self.compared)} made again in a fresh server; memory {self.memory}\n")
        return self.tally

    def _choose(self, number: int, right: dict[str, Any]) -> Turn:
        chance = Random(f"soak, seed {self.seed + number}")
        kind, name = chance.choice(KINDS), chance.choice(list(right))
        if kind == "again" and self.made:
            turn, _ = self.made[chance.choice(list(self.made)[-10:])]
            return Turn(number, kind, turn.name, turn.prompt)
        prompt = with_stills(varied(right[name], chance))
        if kind == "cancelled":
            for node in prompt.values():
                if node["class_type"] in SAMPLERS:
                    node["inputs"]["steps"] = 1000
            return Turn(number, kind, name, prompt)
        if kind == "wrong":
            wrong = wrong_prompt(prompt, chance)
            return Turn(number, kind, name, wrong, unlinked(prompt, wrong))
        return Turn(number, "right", name, prompt)

    def _turn(self, server: Any, turn: Turn) -> None:
        chance = Random(f"soak, seed {self.seed + turn.number}, then")
        if turn.kind == "wrong":
            outcome, text = attempt(server, turn.prompt, turn.loose)
        elif turn.kind == "cancelled":
            outcome, text = cancel(server, turn.prompt, chance.uniform(0.0, 2.0))
        else:
            outcome, text = self._make(server, turn)
        self.kinds.append(turn.kind)
        self._count(turn.number, outcome, text and f"{turn.kind} {turn.name}: {text}")
        if server.process.poll() is not None:
            return
        self.memory.used.append((turn.number + 1, resident(server)))
        if chance.random() < FREED:
            ask(server, "/free", {"unload_models": True, "free_memory": chance.random() < 0.8})
            self.memory.freed.append((turn.number + 1, freed(server)))

    def _make(self, server: Any, turn: Turn) -> tuple[str, str]:
        try:
            files = stills(server.run(turn.prompt, PATIENCE))
        except Exception as error:
            return "finding", str(error)[:300]
        if not files:
            return "finding", "nothing came out"
        if turn.kind == "again":
            earlier = next(made for one, made in self.made.values() if one.prompt is turn.prompt)
            return (
                ("result", "")
                if files == earlier
                else ("finding", f"asked for twice, it is another ({difference(files, earlier)})")
            )
        self.made[turn.number] = turn, files
        return "result", ""

    def _compare(self, server: Any) -> None:
        numbers = sorted(self.made)
        for number in numbers[:: max(1, math.ceil(len(numbers) / CHECKED))]:
            turn, files = self.made[number]
            self.compared.append(number)
            again = stills(server.run(turn.prompt, PATIENCE))
            if again != files:
                self._count(
                    number, "finding", f"{turn.name}: a fresh server makes another ({difference(files, again)})"
                )

    def _count(self, number: int, outcome: str, text: str) -> None:
        self.tally.outcomes[outcome] += 1
        if outcome == "finding":
            self.tally.found.append(Found(self.seed + number, text))
            self.on_finding(self.tally.found[-1])


def varied(right: dict[str, Any], chance: Random) -> dict[str, Any]:
    """The same workflow with other settings, all of them small."""
    prompt = copy.deepcopy(right)
    kinds = [node["class_type"] for node in prompt.values()]
    side, frames, seed = chance.choice((64, 64, 128)), chance.choice((4, 8, 16)), chance.randrange(2**32)
    if "DynamiCrafterWindows" in kinds:
        frames = 24
    chosen: dict[str, dict[str, Any]] = {
        "DynamiCrafterVisualGuidance": {
            "frames": frames,
            "fs": chance.choice((0, 15)),
            "fit": chance.choice(("crop", "pad")),
        },
        "DynamiCrafterCameraPath": {"frames": frames},
        "DynamiCrafterSketch": {"frames": str(frames // 2)},
        "DynamiCrafterFilm": {"script": chance.choice(SCRIPTS), "seed": seed},
        "EmptyLatentImage": {"width": side, "height": 64, "batch_size": frames},
        "DynamiCrafterSampler": {"seed": seed},
        "KSampler": {"seed": seed},
        "RandomNoise": {"noise_seed": seed},
        "RebatchImages": {"batch_size": frames},
        "CLIPTextEncode": {"text": chance.choice(TEXTS)},
    }
    if kinds.count("DynamiCrafterVisualGuidance") == 1:
        chosen["DynamiCrafterVisualGuidance"] |= {"width": side, "height": 64}
        chosen["DynamiCrafterSampler"] |= {
            "cfg_text": chance.choice((-1.0, 1.0, 7.5)),
            "cfg_image": chance.choice((-1.0, 1.0, 3.0)),
        }
    if "DynamiCrafterStrokes" not in kinds:  # whose mask has its picture's size
        chosen["LoadImage"] = {"image": chance.choice(("example.png", "wide.png", "tall.png", "clear.png"))}
    steps = chance.randint(1, 3)
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] in SAMPLERS:
            inputs["steps"] = steps
        for key, value in chosen.get(node["class_type"], {}).items():
            if not isinstance(inputs.get(key), list):
                inputs[key] = value
    return prompt


def cancel(server: Any, prompt: dict[str, Any], after: float) -> tuple[str, str]:
    prompt_id = ask(server, "/prompt", {"prompt": prompt})["prompt_id"]
    time.sleep(after)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ask(server, "/interrupt", {})
        time.sleep(0.1)
        entry = server.get(f"/history/{prompt_id}").get(prompt_id)
        if entry and entry.get("status", {}).get("status_str"):
            return "result", ""
    return "finding", "it does not stop when told to"


def resident(server: Any) -> int:
    import psutil

    return psutil.Process(server.process.pid).memory_info().rss


def freed(server: Any) -> int:
    """What is held once the server has done what /free asks for, and has forgotten what it was asked."""
    ask(server, "/history", {"clear": True})
    until = time.monotonic() + 10
    while server.get("/probe")["flags"] and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)  # the flags are gone before the models are
    return server.get("/probe")["held"]


def link_probe(base: Path, link: Callable[[Path, Path], None]) -> None:
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    link(Path(__file__).parent / "probe", base / "custom_nodes" / "probe")


def draw_pictures(folder: Path) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    grey = Image.radial_gradient("L")
    grey.resize((200, 90)).convert("RGB").save(folder / "wide.png")
    grey.resize((80, 160)).save(folder / "tall.png")
    Image.merge("RGBA", [grey, grey.rotate(90), Image.linear_gradient("L"), grey]).save(folder / "clear.png")


def with_stills(prompt: dict[str, Any]) -> dict[str, Any]:
    """The frames of each video saved as pictures too: a video of the same frames may differ, encoded twice."""
    stills = {}
    for key, node in prompt.items():
        if node["class_type"] == "SaveVideo":
            made, _ = node["inputs"]["video"]
            images = prompt[made]["inputs"].get("images") if prompt[made]["class_type"] == "CreateVideo" else [made, 0]
            inputs = {"images": images, "filename_prefix": "stills"}
            stills[f"{1000 + int(key)}"] = {"class_type": "SaveImage", "inputs": inputs}
    return {**prompt, **stills}


def stills(files: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in files if path.suffix == ".png"]


def difference(one: list[bytes], other: list[bytes]) -> str:
    """How far two lists of pictures are apart, in words."""
    import io

    import numpy as np
    from PIL import Image

    if len(one) != len(other):
        return f"{len(one)} and {len(other)} pictures"
    worst = 0
    for pair in zip(one, other, strict=True):
        left, right = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int) for content in pair)
        if left.shape != right.shape:
            return f"pictures of {left.shape} and {right.shape}"
        worst = max(worst, int(np.abs(left - right).max()))
    return f"by {worst} of 255 at most"
