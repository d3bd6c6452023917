"""Run the tests in every ComfyUI the pack supports: the host tests in the oldest, then all tests in the newest.

Where one host is given (COMFYUI_PATH, or the ComfyUI this repository is installed in), all tests run once, in that one.

    .venv/bin/python tools/run_tests.py [pytest's arguments]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import environment
import hosts

WORKERS = ["-n", str(min(4, os.cpu_count() or 1)), "--dist", "loadfile"]
HOST_TESTS = ["tests/host", "tests/e2e"]
# Not `python -m pytest`: that puts the repository root on sys.path, where `nodes` would hide the host's module of that name.
PYTEST = "import sys; sys.path[:] = filter(None, sys.path); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
ONCE = ["-m", "not once"]  # in the oldest host, where nothing is asked for
NOTHING_CHOSEN = 5  # pytest's exit status where the arguments leave no test


def run_pytest(python: Path, host: Path, arguments: list[str]) -> int:
    sys.stdout.write(f"\nTests in {host.name}, {python}\n")
    sys.stdout.flush()
    environ = {**os.environ, "COMFYUI_PATH": str(host)}
    return subprocess.run([python, "-c", PYTEST, *WORKERS, *arguments], cwd=hosts.ROOT, env=environ).returncode


def main(arguments: list[str]) -> int:
    first = environment.environment_folder()
    python = environment.python_of(first)
    if given := hosts.given_host():
        return run_pytest(python, given, arguments)
    thin = environment.python_of(environment.thin_environment(first, hosts.OLDEST))
    in_oldest = 0
    if chosen := host_tests(arguments):
        chosen += [] if arguments else ONCE
        in_oldest = run_pytest(thin, hosts.find_host("oldest"), chosen)
    in_newest = run_pytest(python, hosts.find_host("newest"), arguments)
    if in_oldest == NOTHING_CHOSEN and arguments:
        in_oldest = 0
    if in_oldest:
        sys.stdout.write(f"In ComfyUI {hosts.OLDEST.version} tests failed: see the first run above.\n")
    return in_oldest or in_newest


def host_tests(arguments: list[str]) -> list[str]:
    """The arguments for a run of host tests alone: of the paths among them those of host tests; none where that leaves none."""
    paths = [argument for argument in arguments if (hosts.ROOT / argument.split("::")[0]).exists()]
    options = [argument for argument in arguments if argument not in paths]
    chosen = [path for path in paths or HOST_TESTS if path.startswith(tuple(HOST_TESTS))]
    return [*chosen, *options] if chosen else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
