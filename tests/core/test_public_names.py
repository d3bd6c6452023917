"""The names that code outside this repository imports."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import dynamicrafter_core

ROOT = Path(dynamicrafter_core.__file__).parents[1]

PROMISED = [
    "VideoUNet",
    "Hooks",
    "BlockHooks",
    "AttentionHooks",
    "InnerHook",
    "UNetConfig",
    "Projector",
    "ProjectorConfig",
    "Autoencoder",
    "AutoencoderConfig",
    "NoiseSchedule",
    "ddim_timesteps",
    "sample_ddim",
    "consistency_timesteps",
    "sample_consistency",
    "guide",
    "preprocess_for_clip",
    "load_checkpoint",
    "make_film",
    "merge",
    "Camera",
    "read_script",
    "render",
    "detect",
    "FAMILIES",
    "Pipeline",
    "InputError",
    "convert",
]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_name_is_there(name: str) -> None:
    assert getattr(dynamicrafter_core, name) is not None
    assert name in dynamicrafter_core.__all__ and name in dir(dynamicrafter_core)


def test_nothing_else_is_promised() -> None:
    assert sorted(dynamicrafter_core.__all__) == sorted(PROMISED)


def test_a_name_is_the_one_of_its_module() -> None:
    from dynamicrafter_core.errors import InputError
    from dynamicrafter_core.models.unet import VideoUNet

    assert dynamicrafter_core.InputError is InputError and dynamicrafter_core.VideoUNet is VideoUNet


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Pipelines"):
        dynamicrafter_core.Pipelines  # noqa: B018


def test_importing_the_package_costs_nothing() -> None:
    loaded = python("import sys, dynamicrafter_core; print(*sys.modules)").split()
    assert not {"torch", "numpy", "open_clip", "kornia", "av", "PIL", "tqdm", "safetensors"} & set(loaded)


@pytest.mark.slow
def test_the_package_works_under_any_name_and_imports_nothing_of_the_host() -> None:
    """As the host loads it: from a folder of any name, beside a top-level `nodes` that is not ours."""
    code = f"""
import importlib.util, sys
path = {str(ROOT / "dynamicrafter_core")!r}
spec = importlib.util.spec_from_file_location("renamed_core", path + "/__init__.py", submodule_search_locations=[path])
core = importlib.util.module_from_spec(spec)
sys.modules["renamed_core"] = core
spec.loader.exec_module(core)
for name in core.__all__:
    getattr(core, name)
foreign = [name for name in sys.modules if name.split(".")[0] in ("comfy", "nodes", "dynamicrafter_core")]
print(core.Pipeline.__module__, foreign)
"""
    assert python(code) == "renamed_core.pipeline.pipeline []\n"


def test_the_version_is_the_projects() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.*)"$', project, re.M)[1] == dynamicrafter_core.__version__  # type: ignore[index]
