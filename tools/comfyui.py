"""A ComfyUI server with this pack linked in: for `make comfyui`, for the demo, for screenshots and for the end-to-end tests.

    python tools/comfyui.py [--base FOLDER] [ComfyUI's own arguments]    serves at 127.0.0.1:8188 until Ctrl+C

Models, pictures and videos lie under the base folder (default: out/comfyui), never in the host's own folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import hosts

PACK = "dynamicrafter"  # the folder name the registry installs it under
BASE = hosts.ROOT / "out" / "comfyui"
FOLDERS = ("custom_nodes", "input", "output", "user", "models/checkpoints", "models/loras")


class RunError(Exception):
    """The host's message for a workflow that failed."""


def link(target: Path, folder: Path) -> None:
    """A link to a folder; on Windows a junction, which needs no rights."""
    if folder.is_symlink() or folder.exists():
        return
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(target), str(folder))
    else:
        folder.symlink_to(target, target_is_directory=True)


def prepare(host: Path, base: Path, with_pack: bool = True) -> None:
    """The folders of a fresh ComfyUI, with this pack among the custom nodes and the host's own example picture as input."""
    for name in FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    if with_pack:
        link(hosts.ROOT, base / "custom_nodes" / PACK)
    for picture in (host / "input").glob("*.png"):
        if not (base / "input" / picture.name).exists():
            shutil.copy(picture, base / "input")


def command(host: Path, base: Path, port: int, *arguments: str) -> list[str]:
    database = f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"  # which the base directory alone does not move
    fixed = ["--base-directory", str(base), "--port", str(port), "--disable-auto-launch", "--database-url", database]
    return [sys.executable, str(host / "main.py"), *fixed, *arguments]


def environ(host: Path) -> dict[str, str]:
    """Without what would put another `nodes` before the host's, and with UTF-8 in its log everywhere."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def device_arguments() -> list[str]:
    """ComfyUI refuses to start without an accelerator unless told to use the CPU."""
    import torch

    found = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
    return [] if found else ["--cpu"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ComfyUI:
    """A server of its own process, as a context manager: `with ComfyUI(host, base) as comfyui: comfyui.run(prompt)`."""

    def __init__(self, host: Path, base: Path, *arguments: str, patience: float = 180, with_pack: bool = True) -> None:
        self.host, self.base, self.arguments, self.patience = host, base, arguments, patience
        self.with_pack = with_pack  # False: the caller fills the base's custom_nodes
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = base / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ComfyUI:
        prepare(self.host, self.base, self.with_pack)
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command(self.host, self.base, self.port, *self.arguments),
                cwd=self.host,
                env=environ(self.host),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _wait(self) -> None:
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                self.get("/queue")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.3)
        raise RunError(f"ComfyUI did not start; its log ends with:\n{self.log()[-3000:]}")

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise RunError(error.read().decode(errors="replace")) from None
        return json.loads(text) if text else None

    def queue(self, prompt: dict[str, Any]) -> str:
        """Queues an API-format prompt and returns its id."""
        return self.post("/prompt", {"prompt": prompt, "client_id": PACK})["prompt_id"]

    def wait(self, prompt_id: str, patience: float = 300) -> dict[str, Any]:
        """The history entry of a prompt once it has ended, however it ended."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry.get("status", {}).get("status_str"):
                return entry
            if self.process is not None and self.process.poll() is not None:
                raise RunError(f"ComfyUI ended while it worked:\n{self.log()[-3000:]}")
            time.sleep(0.1)
        raise RunError(f"no end after {patience:g} s; the log ends with:\n{self.log()[-3000:]}")

    def run(self, prompt: dict[str, Any], patience: float = 300) -> list[Path]:
        """Runs a prompt to its end and returns the files it wrote, in the order of its output nodes."""
        entry = self.wait(self.queue(prompt), patience)
        if entry["status"]["status_str"] != "success":
            said = [message for kind, message in entry["status"]["messages"] if kind == "execution_error"]
            raise RunError("; ".join(f"{one['node_type']}: {one['exception_message']}" for one in said) or str(entry))
        return [
            self.base / "output" / file["subfolder"] / file["filename"]
            for _, output in sorted(entry["outputs"].items(), key=lambda item: int(item[0]))
            for files in output.values()
            for file in files
            if isinstance(file, dict) and file.get("type") == "output"
        ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run ComfyUI with this pack linked in.", allow_abbrev=False)
    parser.add_argument(
        "--base", type=Path, default=BASE, help="folder for models, input and output (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=8188)
    chosen, passed_on = parser.parse_known_args(arguments)
    try:
        host = hosts.find_host()
    except hosts.HostError as error:
        parser.exit(1, f"{error}\n")
    base = chosen.base.expanduser().resolve()
    prepare(host, base)
    sys.stdout.write(
        f"ComfyUI from {host}\nModels go under {base / 'models'}; the page is http://127.0.0.1:{chosen.port}, the example "
        "workflows are in its template browser.\n"
    )
    sys.stdout.flush()
    try:
        return subprocess.run(
            command(host, base, chosen.port, *device_arguments(), *passed_on), cwd=host, env=environ(host)
        ).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
