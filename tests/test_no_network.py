"""`pytest --no-network`: what asks for the network fails the run, also where it lives with the refusal; this machine is no network."""

import subprocess
import sys
from pathlib import Path

import pytest
import repository

ASKS = {
    "by name": "socket.getaddrinfo('example.com', 80)",
    "by number": "socket.create_connection(('192.0.2.1', 80), 1)",
    "to all": "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('224.0.0.1', 80))",
    "in a process": "subprocess.run([sys.executable, '-c', 'import socket; socket.create_connection((\"192.0.2.1\", 80), 1)'])",
}
LOCAL = "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()).close(); s.close()"


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_bytes((repository.ROOT / "tests" / "conftest.py").read_bytes())
    (folder / "no_network").mkdir()
    (folder / "no_network" / "sitecustomize.py").write_bytes(
        (repository.ROOT / "tests" / "no_network" / "sitecustomize.py").read_bytes()
    )
    test = f"import contextlib, socket, subprocess, sys\ndef test_it():\n    with contextlib.suppress(OSError):\n        {code}\n"
    (folder / "test_it.py").write_text(test)
    tools = repository.ROOT / "tools"
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        f"pythonpath={tools}",
        "--no-network",
    ]
    return subprocess.run([*words, "test_it.py"], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("way", ASKS)
def test_whatever_asks_for_the_network_fails_the_run(way: str, tmp_path: Path) -> None:
    told = run(ASKS[way], tmp_path)
    assert told.returncode == 1, told.stdout + told.stderr
    assert "asked for the network: 1" in told.stdout and any(
        name in told.stdout for name in ("example.com", "192.0.2.1", "224.0.0.1")
    )


@pytest.mark.slow
def test_this_machine_is_no_network(tmp_path: Path) -> None:
    told = run(LOCAL, tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "nothing did" in told.stdout
