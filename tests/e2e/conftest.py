"""A real ComfyUI server on loopback, with the pack linked in and small models under the names the workflows ask for."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser
import comfyui
import hosts
import pytest
import standins

WORKFLOWS = hosts.ROOT / "workflows"


@pytest.fixture(scope="session")
def server(host_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[comfyui.ComfyUI]:
    base = tmp_path_factory.mktemp("comfyui")
    standins.write_all(base)
    browser.settle(base)
    with comfyui.ComfyUI(host_path, base, "--cpu", "--use-pytorch-cross-attention") as running:
        yield running


@pytest.fixture(scope="session")
def object_info(server: comfyui.ComfyUI) -> dict[str, Any]:
    return server.get("/object_info")


@pytest.fixture(scope="session")
def prompt() -> Callable[[str], dict[str, Any]]:
    """A workflow as HTTP takes it, with few steps."""

    def read(name: str, steps: int = 2) -> dict[str, Any]:
        return standins.shorten(json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8")), steps)

    return read


@pytest.fixture(scope="session")
def chromium() -> str:
    found = browser.find_browser()
    if found is None:
        missing = "there is no Chromium or Chrome here: install one, or set CHROMIUM to its program"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def tab(server: comfyui.ComfyUI, chromium: str) -> Iterator[browser.Tab]:
    with browser.open_tab(server, chromium) as opened:
        yield opened
