"""The real ComfyUI-Manager installs the pack from a git repository, disables it and enables it again, by its command line."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import comfyui
import environment
import pytest
import repository

MANAGER = environment.python_of(environment.manager_environment(Path(sys.prefix)))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(Path(sys.prefix).parent.name == "hosts", reason="Manager lies beside the newest host alone"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bare repository on loopback that holds this tree, changes that are not committed included."""
    folder = tmp_path_factory.mktemp("published")
    tree, bare = folder / "tree", folder / f"{comfyui.PACK}.git"
    for path in repository.files(""):
        target = tree / path.relative_to(repository.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    name = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    for command in (["init", "-q"], ["add", "-A"], [*name, "commit", "-qm", "The tree"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", tree, bare], check=True)
    subprocess.run(["git", "update-server-info"], cwd=bare, check=True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{bare.name}"
        server.shutdown()


@pytest.fixture(scope="module")
def host(host_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the host, since Manager writes into the folder that it finds ComfyUI's sources in."""
    return Path(shutil.copytree(host_path, tmp_path_factory.mktemp("managed") / "ComfyUI"))


@pytest.fixture(scope="module")
def manager(host: Path) -> Callable[..., str]:
    """Runs a command of Manager, without a network."""
    assert MANAGER.exists(), "ComfyUI-Manager is missing: run make environment"
    environ = {**os.environ, "COMFYUI_PATH": str(host), "UV_OFFLINE": "1", "GIT_TERMINAL_PROMPT": "0"}

    def run(command: str, what: str) -> str:
        words = [MANAGER, "-m", "cm_cli", command, what, "--mode", "local", "--user-directory", host / "user"]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def packages() -> str:
    listed = [MANAGER, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    return subprocess.run(listed, check=True, capture_output=True, text=True).stdout


def nodes_after_a_restart(host: Path) -> set[str]:
    with comfyui.ComfyUI(host, host, "--cpu", with_pack=False) as server:
        return {name for name in server.get("/object_info") if name.startswith("DynamiCrafter")}


def test_manager_installs_disables_and_enables_the_pack(
    manager: Callable[..., str], published: str, host: Path
) -> None:
    before = packages()
    assert "INSTALLED" in manager("install", published)
    assert packages() == before  # nothing came along by pip
    installed = nodes_after_a_restart(host)
    assert {"DynamiCrafterLoad", "DynamiCrafterSampler", "DynamiCrafterDecode"} <= installed
    assert "DISABLED" in manager("disable", comfyui.PACK)
    assert nodes_after_a_restart(host) == set()
    assert "ENABLED" in manager("enable", comfyui.PACK)
    assert nodes_after_a_restart(host) == installed
