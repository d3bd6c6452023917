"""The environment and the runs of the tests: what is made once, what may differ between hosts, what counts as failed."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import environment
import hosts
import pytest
import run_tests


@pytest.mark.slow
def test_thin_environment_sees_all_of_the_first_but_what_it_has_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    first = environment.python_of(tmp_path)

    def site_packages(python: Path) -> Path:
        return Path(environment.answer(python, "import sysconfig; print(sysconfig.get_path('purelib'))"))

    def install(python: Path, *_: object) -> None:
        (site_packages(python) / "pinned.py").write_text("of = 'oldest'\n")

    monkeypatch.setattr(environment, "install", install)
    for name in ("pinned", "shared", "editable/package"):
        module = site_packages(first) / f"{name}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text("of = 'newest'\n")
    (site_packages(first) / "editable.pth").write_text(f"{site_packages(first) / 'editable'}\n")

    folder = environment.thin_environment(tmp_path, hosts.OLDEST)
    environment.make_thin(tmp_path, folder, tmp_path / "constraints.txt")
    thin = environment.python_of(folder)
    told = "import pinned, shared, package; print(pinned.of, shared.of, package.of)"
    assert environment.answer(thin, told) == "oldest newest newest"
    assert environment.answer(first, "import pinned; print(pinned.of)") == "newest"


@pytest.mark.parametrize(
    ("present", "kept"),
    [("", environment.TORCH), ("2.11.0+cu130", environment.TORCH), ("2.12.1+cpu", ["torch==2.12.1"])],
)
def test_torch_that_is_there_already_stays(present: str, kept: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "answer", lambda *_: present)
    assert environment.constraints(Path("python")) == kept


def test_complete_environment_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(hosts, "given_host", lambda: None)
    monkeypatch.setattr(hosts, "is_host", lambda _: True)
    monkeypatch.setattr(environment, "run", lambda *command: pytest.fail(f"{command} was run"))
    (tmp_path / environment.STAMP).write_text(environment.wanted_state(None))
    environment.make(tmp_path)


@dataclass
class Runs:
    done: list[tuple[str, list[str]]] = field(default_factory=list)  # (host, arguments)
    ends: dict[str, int] = field(default_factory=dict)  # host -> exit status, where it is not 0


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """What would be run, none of it being run."""
    runs = Runs()

    def run_pytest(python: Path, host: Path, arguments: list[str]) -> int:
        runs.done.append((host.name, arguments))
        return runs.ends.get(host.name, 0)

    monkeypatch.setattr(run_tests, "run_pytest", run_pytest)
    monkeypatch.setattr(hosts, "given_host", lambda: None)
    monkeypatch.setattr(hosts, "find_host", Path)
    return runs


def test_host_tests_run_in_the_oldest_host_and_all_tests_in_the_newest(runs: Runs) -> None:
    assert run_tests.main([]) == 0
    assert runs.done == [("oldest", ["tests/host", "tests/e2e", "-m", "not once"]), ("newest", [])]


def test_with_arguments_all_host_tests_run_in_the_oldest_too(runs: Runs) -> None:
    run_tests.main(["--durations=9"])
    assert runs.done[0] == ("oldest", ["tests/host", "tests/e2e", "--durations=9"])


def test_chosen_core_tests_need_no_second_host(runs: Runs) -> None:
    run_tests.main(["tests/core", "-x"])
    assert runs.done == [("newest", ["tests/core", "-x"])]


def test_chosen_host_tests_run_in_both(runs: Runs) -> None:
    run_tests.main(["tests/host/test_environment.py::test_x", "tests/core", "-x"])
    assert runs.done[0] == ("oldest", ["tests/host/test_environment.py::test_x", "-x"])
    assert len(runs.done) == 2


def test_given_host_is_the_only_one(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "given_host", lambda: Path("mine"))
    run_tests.main(["-x"])
    assert runs.done == [("mine", ["-x"])]


@pytest.mark.parametrize("failing", ["oldest", "newest"])
def test_failure_in_either_host_fails(failing: str, runs: Runs) -> None:
    runs.ends[failing] = 1
    assert run_tests.main([]) == 1
    assert len(runs.done) == 2


def test_choice_that_leaves_no_host_test_is_no_failure(runs: Runs) -> None:
    runs.ends["oldest"] = run_tests.NOTHING_CHOSEN
    assert run_tests.main(["-k", "unet"]) == 0
    assert run_tests.main([]) == run_tests.NOTHING_CHOSEN
