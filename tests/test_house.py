"""What must stay true of the tree itself: two rooms with one door, small files, one version, a package of the core alone."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import hosts
import pytest
import repository
import yaml

import dynamicrafter_core

CORE = repository.ROOT / "dynamicrafter_core"
MODULE_OF = {"open_clip_torch": "open_clip", "pillow": "PIL"}  # where the name to import is not the name to install
LONGEST_FILE = 400
FLOORS = (  # of the core, from the ground up: a module imports from its own floor and from those below
    {"__init__", "errors"},
    {"atomic", "checks", "devices", "part_names", "tensor_files", "text_files"},
    {"models", "diffusion", "media"},
    {"camera", "strokes"},
    {"families"},
    {"checkpoints"},
    {"pipeline"},
    {"batch", "film"},
    {"training"},
    {"analysis"},
    {"cli", "__main__"},
)


def test_core_imports_only_itself_and_its_declared_dependencies() -> None:
    """So nothing named comfy, nothing from nodes, and nothing by its absolute name: the host gives the pack another one."""
    declared = {MODULE_OF.get(name, name) for name in repository.dependencies()} | {"ray"}  # an extra, for clusters
    strangers = []
    for path in repository.files(".py", CORE):
        depth = len(path.relative_to(CORE).parts)
        for module, level in repository.imported(path):
            outside = level > depth if level else module.split(".")[0] not in declared | sys.stdlib_module_names
            if outside:
                strangers.append(f"{repository.name(path)} imports {'.' * level}{module}")
    assert not strangers


def test_data_flows_one_way_through_the_core() -> None:
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    upward = []
    for path in repository.files(".py", CORE):
        parts = path.relative_to(CORE).with_suffix("").parts
        if parts == ("__init__",):
            continue  # it opens the whole house to those outside
        for module, level in repository.imported(path):
            room = module.split(".")[0] or "__init__"
            if level == len(parts) and floor_of[room] > floor_of[parts[0]]:
                upward.append(f"{repository.name(path)} imports {module}")
    assert not upward


def test_every_declared_dependency_is_used() -> None:
    used = {
        module.split(".")[0]
        for path in repository.files(".py", CORE)
        for module, level in repository.imported(path)
        if not level
    }
    assert {name for name in repository.dependencies() if MODULE_OF.get(name, name) not in used} == set()


def test_only_the_host_adapters_and_what_tries_them_import_comfy() -> None:
    rooms = ("nodes/host/", "tests/host/", "tests/e2e/", "benchmarks/gpu_host.py")
    wrong = [
        repository.name(path)
        for path in repository.files(".py")
        if not repository.name(path).startswith(rooms)
        and any(not level and module.split(".")[0] == "comfy" for module, level in repository.imported(path))
    ]
    assert not wrong


def test_importing_the_core_leaves_heavy_packages_alone() -> None:
    """What only some people need (encoders, images, video) is imported by the functions that need it."""
    loaded = "import sys, dynamicrafter_core; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True, cwd=repository.ROOT
    )
    assert not {"open_clip", "kornia", "av", "PIL", "torchvision", "transformers"} & set(answer.stdout.split())


def test_no_source_file_is_longer_than_one_idea() -> None:
    lengths = {
        repository.name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in repository.files(".py")
    }
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_every_source_file_says_what_it_is_for() -> None:
    silent = [
        repository.name(path)
        for path in repository.files(".py")
        if (source := path.read_text(encoding="utf-8")).strip() and not ast.get_docstring(ast.parse(source))
    ]
    assert not silent


def test_one_version_everywhere() -> None:
    version = repository.project()["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    newest = re.search(r"^## (\S+)", (repository.ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest and newest[1] == version
    assert dynamicrafter_core.__version__ == version


def test_registry_is_told_the_oldest_host_that_is_tested() -> None:
    assert repository.project()["tool"]["comfy"]["requires-comfyui"] == f">={hosts.OLDEST.version}"


def test_no_file_holds_a_package_index_or_a_path_of_somebodys_machine() -> None:
    wrong = re.compile(r"--(?:(?:extra-)?index|find)-(?:url|links)[ =]|/(?:home|root|Users)/\w|[A-Z]:\\\\Users")
    found = [
        f"{repository.name(path)}: {match[0]}"
        for suffix in (".py", ".md", ".toml", ".yml", ".json", "Makefile", "run")
        for path in repository.files(suffix)
        if path != Path(__file__) and (match := wrong.search(path.read_text(encoding="utf-8")))
    ]
    assert not found


def test_ci_runs_what_a_contributor_runs() -> None:
    assert re.search(r"^make test$", (repository.ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M)
    workflow = yaml.safe_load((repository.ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    commands = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in commands
    assert "make check" in commands


def test_embedded_workflows_and_issue_forms_are_valid_yaml() -> None:
    forms = [
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in repository.files(".yml", repository.ROOT / ".github")
    ]
    assert len(forms) >= 4
    assert all(isinstance(form, dict) for form in forms)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the wheel that `pip install .` would install, built from a copy so that no build folder stays here."""
    copy = tmp_path_factory.mktemp("copy")
    for path in repository.files(""):
        target = copy / path.relative_to(repository.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        copy / "wheels",
    ]
    built = subprocess.run([*pip, copy], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (made,) = (copy / "wheels").glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_pip_installs_the_core_and_nothing_else(wheel: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == {"dynamicrafter_core"}


@pytest.mark.slow
def test_pip_installs_every_file_of_the_core(wheel: set[str]) -> None:
    """Sources, the marker that its types are to be used, and the model that ships with it."""
    assert "dynamicrafter_core/py.typed" in wheel
    assert {repository.name(path) for path in repository.files("", CORE)} == {
        name for name in wheel if ".dist-info/" not in name
    }


@pytest.mark.slow
def test_pip_installs_the_license(wheel: set[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
