"""ComfyUI's API: workflows altered in their structure, names and values, queued in a real server with this pack linked in.

What the host refuses is refused; an error in a node of this pack must be an InputError; and the server lives on.
"""

import copy
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from .mutation import altered, name, number, text, value
from .runner import ROOT, START, Found, Tally
from .surface import LIMIT

WORKFLOWS = ROOT / "workflows" / "api"
WHAT = "API workflows in a real ComfyUI: wrong inputs, links, node names and structure"
FREE = ("output", "temp", "user", "server.log")  # what a server may write


def besiege(seconds: float, seed: int, on_finding: Callable[[Found], object]) -> Tally:
    sys.path.append(str(ROOT / "tools"))
    import comfyui
    import hosts
    import standins

    tally, lost = Tally(), False
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        base = Path(folder) / "base"
        base.mkdir()
        standins.write_all(base)
        right = [
            standins.shorten(json.loads(path.read_text(encoding="utf-8")), 1)
            for path in sorted(WORKFLOWS.glob("*.json"))
        ]
        begun = time.monotonic()
        while time.monotonic() < begun + seconds and not lost:
            with comfyui.ComfyUI(hosts.find_host(), base, "--cpu") as server:
                before = files_of(base)
                while time.monotonic() < begun + seconds and not queue_ended(server.log()):
                    number = seed + tally.tried
                    chance = Random(f"api, seed {number}")
                    whole = chance.choice(right)
                    prompt = wrong_prompt(whole, chance)
                    outcome, told = attempt(server, prompt, unlinked(whole, prompt))
                    if files_of(base) != before:
                        outcome, told = "finding", f"changes {min(files_of(base) ^ before)}"
                    tally.outcomes[outcome] += 1
                    if outcome == "finding":
                        tally.found.append(Found(number, told))
                        on_finding(tally.found[-1])
                    if lost := server.process.poll() is not None:
                        break
        tally.seconds = time.monotonic() - begun
    return tally


def queue_ended(log: str) -> bool:
    """The host's worker dies of some prompts, such as one with a node that lacks its inputs; the server needs a new start then."""
    return "in prompt_worker" in log


def files_of(base: Path) -> set[str]:
    inside = (path.relative_to(base) for path in base.rglob("*") if path.is_file())
    beside = {f"../{path.name}" for path in base.parent.iterdir()}
    return beside | {str(path) for path in inside if path.parts[0] not in FREE and "__pycache__" not in path.parts}


def wrong_prompt(right: dict[str, Any], chance: Random) -> Any:
    prompt = copy.deepcopy(right)
    if chance.random() < 0.2:
        return altered(prompt, chance)
    ours = [key for key, node in prompt.items() if node["class_type"].startswith("DynamiCrafter")]
    for _ in range(chance.choice((1, 1, 2, 3))):
        inputs = prompt[chance.choice(ours if chance.random() < 0.8 else list(prompt))]["inputs"]
        if plain := [key for key, given in inputs.items() if chance.random() < 0.1 or not isinstance(given, list)]:
            inputs[chance.choice(plain)] = chance.choice((value, number, number, text, name))(chance)
    return prompt


def unlinked(right: dict[str, Any], prompt: Any) -> bool:
    """Whether a constant stands where a link belongs: the host hands it on unchecked, to its own nodes as to ours."""
    for key, node in right.items():
        other = prompt.get(key) if isinstance(prompt, dict) else None
        inputs = other.get("inputs") if isinstance(other, dict) else None
        for entry, given in node["inputs"].items():
            if isinstance(given, list) and isinstance(inputs, dict) and not is_link(inputs.get(entry)):
                return True
    return False


def is_link(given: Any) -> bool:
    return isinstance(given, list) and len(given) == 2 and isinstance(given[0], str) and type(given[1]) in (int, float)


def attempt(server: Any, prompt: Any, loose: bool) -> tuple[str, str]:
    said = len(server.log())
    try:
        queued = ask(server, "/prompt", {"prompt": prompt})
    except urllib.error.HTTPError as error:
        trace = server.log()[said:]
        ours = error.code >= 500 and "custom_nodes" in trace and "nodes/host" in trace
        return ("finding", f"the server answers {error.code}: {trace[-300:]!r}") if ours else ("refused", "")
    except OSError as error:
        return "finding", f"the server is gone: {error}"
    entry = ended(server, queued["prompt_id"])
    if entry is None:
        trace = server.log()[said:]
        if queue_ended(trace):
            return ("finding", f"the queue ends: {trace[-300:]!r}") if "custom_nodes" in trace else ("refused", "")
        return "finding", "the server does not stop what it was told to stop"
    for kind, message in entry["status"]["messages"]:
        if kind == "execution_error":
            ours = str(message["node_type"]).startswith("DynamiCrafter")
            if ours and not loose and not message["exception_type"].endswith("InputError"):
                where = (message.get("traceback") or [""])[-1].strip().splitlines()
                return (
                    "finding",
                    f"{message['node_type']} ends in {message['exception_type']}: {message['exception_message'][:150]!r} {where[:1]}",
                )
            return "refused", ""
    return "result", ""


def ask(server: Any, path: str, body: Any) -> Any:
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = answer.read()
    return json.loads(content) if content else None


def ended(server: Any, prompt_id: str) -> dict[str, Any] | None:
    """A run that takes long is accepted, and stopped."""
    until, stopped = time.monotonic() + LIMIT, False
    while True:
        entry = server.get(f"/history/{prompt_id}").get(prompt_id)
        if entry and entry.get("status", {}).get("status_str"):
            return entry
        if time.monotonic() > until:
            if stopped or queue_ended(server.log()):
                return None
            ask(server, "/interrupt", {})
            until, stopped = time.monotonic() + START, True  # between two steps, and on a busy machine those are long
        time.sleep(0.05)
