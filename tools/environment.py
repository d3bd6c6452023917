"""Make the environment for tests and demos, once: everything in .venv (or $VENV), and every ComfyUI it is tested in.

ComfyUI pins its own companion packages (front end, templates) to one version each, so two versions of it cannot share one
environment; a second torch would cost another 6 GB. The oldest host therefore gets a thin environment inside the first: a
venv that sees all of the first's packages through a .pth file and holds only what has to differ.

    python tools/environment.py     needs nothing but Python >= 3.10; running it again does nothing
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import hosts

# torch 2.11 is the newest with a torchaudio, which ComfyUI requires, beside it.
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
MANAGER = "comfyui-manager==4.3"
STAMP = "dynamicrafter-environment"
WINDOWS = os.name == "nt"


def environment_folder() -> Path:
    return Path(os.environ.get("VENV") or hosts.ROOT / ".venv").expanduser().resolve()


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if WINDOWS else "bin/python")


def thin_environment(environment: Path, host: hosts.Host) -> Path:
    return environment / "hosts" / host.version


def manager_environment(environment: Path) -> Path:
    return environment / "manager"


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def answer(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def has_pip(python: Path) -> bool:
    """False too for what an interrupted run left behind."""
    return python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def constraints(python: Path) -> list[str]:
    """The versions of torch to install; in an environment that has another torch already, that one stays."""
    code = "import importlib.metadata as m; print(*(d.version for d in m.distributions(name='torch')))"
    present = answer(python, code).split("+")[0]
    return TORCH if not present or f"torch=={present}" in TORCH else [f"torch=={present}"]


def install(python: Path, constraints_file: Path, *what: str | Path) -> None:
    run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints_file, *what)


def make_thin(environment: Path, thin: Path, constraints_file: Path, *what: str | Path) -> None:
    """An environment at `thin` that sees all of the first, and has of its own what differs from it."""
    python = python_of(environment)
    run(python, "-m", "venv", "--without-pip", thin)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    seen = Path(answer(python_of(thin), where)) / "everything_else.pth"
    # addsitedir rather than the bare folder, so that the first environment's own .pth files (editable installs) count too
    seen.write_text(f"import site; site.addsitedir({answer(python, where)!r})\n")
    install(python_of(thin), constraints_file, *what)


def make_manager(environment: Path, constraints_file: Path, requirements: Path) -> None:
    """ComfyUI-Manager, which installs the pack in a test. It asks for the front end in its own environment, so that is there."""
    folder = manager_environment(environment)
    make_thin(environment, folder, constraints_file, MANAGER)
    front_end = [line for line in requirements.read_text().splitlines() if line.startswith("comfyui-frontend-package")]
    install(python_of(folder), constraints_file, "--ignore-installed", "--no-deps", *front_end)


def wanted_state(given: Path | None) -> str:
    """Changes when anything that the environment is made from changes."""
    sources = [hosts.ROOT / "pyproject.toml", Path(__file__), Path(hosts.__file__)]
    if given:
        sources.append(given / "requirements.txt")
    parts = [str(hosts.ROOT), sys.version, *(source.read_text(encoding="utf-8") for source in sources)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def make(environment: Path) -> None:
    given = hosts.given_host()
    stamp = environment / STAMP
    state = wanted_state(given)
    complete = stamp.is_file() and stamp.read_text() == state
    if complete and (given or all(hosts.is_host(host.folder) for host in hosts.HOSTS.values())):
        return
    python = python_of(environment)
    if not has_pip(python):
        run(sys.executable, "-m", "venv", environment)
    if not given:
        run(python, hosts.__file__, "fetch", "all")
    if complete:
        return
    sys.stdout.write(f"Installing into {environment}: the first time about 6 GB and several minutes.\n")
    sys.stdout.flush()
    constraints_file = environment / "constraints.txt"
    constraints_file.write_text("\n".join(constraints(python)) + "\n")
    host_requirements = (given or hosts.NEWEST.folder) / "requirements.txt"
    install(python, constraints_file, "--editable", f"{hosts.ROOT}[dev]", "--requirement", host_requirements)
    if not given:
        requirements = hosts.OLDEST.folder / "requirements.txt"
        make_thin(environment, thin_environment(environment, hosts.OLDEST), constraints_file, "-r", requirements)
    make_manager(environment, constraints_file, host_requirements)
    stamp.write_text(state)


def main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - it is started by hand with any Python
        sys.stderr.write(f"Python {sys.version.split()[0]} is too old; run this with Python 3.10 or newer.\n")
        return 1
    try:
        make(environment_folder())
    except hosts.HostError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        command = " ".join(str(part) for part in error.cmd)
        sys.stderr.write(f"The environment is not complete: this command ended with {error.returncode}: {command}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
