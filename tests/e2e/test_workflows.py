"""Every example workflow, queued over HTTP in the real host, ends with a video that is what it should be."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import comfyui
import example_parts
import examples
import generate
import hosts
import numpy as np
import pytest
import repository
from example_parts import EMBEDDED_SIDE as SIDE
from standins import HEIGHT, WIDTH

# frames, fps, width, height of each video
EXPECTED = {
    "animate_image": [(16, 8, SIDE, SIDE)],
    "dual_guidance_compare": [(16, 8, 2 * SIDE, 2 * SIDE)],
    "interpolate_two_images": [(16, 8, SIDE, SIDE)],
    "looping_video": [(3 * 15, 8, SIDE, SIDE)],
    "native_ksampler_with_lora": [(16, 8, SIDE, SIDE)],
    "text_to_video": [(16, 10, WIDTH, HEIGHT)],
    "text_to_video_in_4_steps": [(16, 8, WIDTH, HEIGHT)],
    "long_video": [(40, 8, SIDE, SIDE)],
    "endless_loop": [(24, 8, SIDE, SIDE)],
    "film": [(70, 8, SIDE, SIDE)],
    "keyframes": [(1 + 14 + 1 + 24 + 1, 8, SIDE, SIDE)],
    "batch_of_images": [(16, 8, SIDE, SIDE)] * 3,
    "camera_flight": [(16, 8, SIDE, SIDE)],
    "camera_path": [(16, 8, SIDE, SIDE)],
    "guidance_over_the_run": [(16, 8, 2 * SIDE, 2 * SIDE)],
    "video_to_video": [(16, 8, 2 * SIDE, SIDE)],
    "refine_large": [(16, 8, 2 * SIDE, 2 * SIDE)],
    "sketch_inbetween": [(16, 8, WIDTH, HEIGHT)],
    "merge_parts": [(16, 8, WIDTH, HEIGHT)],
    "motion_brush": [(16, 8, 2 * SIDE, SIDE)],
}


def measure(video: Path) -> tuple[int, int, int, int]:
    """Counts the frames that can be decoded, whatever the file's header says."""
    with av.open(video) as container:
        stream = container.streams.video[0]
        frames = [(frame.width, frame.height) for frame in container.decode(stream)]
        assert len(set(frames)) == 1
        return len(frames), int(stream.average_rate), *frames[0]


def test_there_is_an_expectation_for_every_workflow() -> None:
    assert set(EXPECTED) == set(examples.EXAMPLES)
    assert set(EXPECTED) == {path.stem for path in generate.FOLDER.glob("*.json")}
    assert set(EXPECTED) == {path.stem for path in generate.FOLDER.glob("api/*.json")}


@pytest.mark.parametrize("name", EXPECTED)
def test_workflow_yields_its_videos(name: str, server: comfyui.ComfyUI, prompt: Callable[..., dict]) -> None:
    files = server.run(prompt(name))
    assert [measure(file) for file in files] == EXPECTED[name]


def test_lora_changes_the_video(server: comfyui.ComfyUI, prompt: Callable[..., dict]) -> None:
    """By far more than a video of the same frames may differ, encoded twice."""

    def pixels(strength: float) -> np.ndarray:
        changed = prompt("native_ksampler_with_lora")
        (load,) = (key for key, node in changed.items() if node["class_type"] == "DynamiCrafterLoad")
        (sampler,) = (node for node in changed.values() if node["class_type"] == "KSampler")
        lora = {"model": [load, 0], "lora_name": example_parts.LORA, "strength_model": strength}
        changed["lora"] = {"class_type": "LoraLoaderModelOnly", "inputs": lora}
        sampler["inputs"]["model"] = ["lora", 0]
        (file,) = server.run(changed)
        with av.open(file) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)

    assert np.abs(pixels(1.0) - pixels(0.0)).mean() > 2


def test_descriptions_and_files_are_in_step(object_info: dict[str, Any]) -> None:
    """UI JSON, API JSON and blueprints come from one description; run tools/generate.py after changing it."""
    stale = [
        repository.name(path)
        for path, text in generate.files(object_info)
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale


@pytest.mark.parametrize("name", EXPECTED)
def test_workflow_uses_only_core_nodes_and_ours_and_explains_itself(name: str, object_info: dict[str, Any]) -> None:
    page = json.loads((generate.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    kinds = [node["type"] for node in page["nodes"]]
    assert "MarkdownNote" in kinds
    modules = {object_info[kind]["python_module"] for kind in kinds if kind != "MarkdownNote"}
    assert {module.split(".")[0] for module in modules} <= {"nodes", "comfy_extras", "custom_nodes"}
    assert {module for module in modules if module.startswith("custom_nodes")} == {f"custom_nodes.{comfyui.PACK}"}


@pytest.fixture(scope="module", autouse=True)
def log(server: comfyui.ComfyUI) -> Callable[[], list[str]]:
    """The server's log of its start and of this file's tests: what the tests of other files have refused is left out."""
    before = server.log()
    start = before.split("To see the GUI go to")[0]
    return lambda: [*start.splitlines(), *server.log()[len(before) :].splitlines()]


def test_log_holds_no_warning_of_ours(log: Callable[[], list[str]]) -> None:
    """Here, after every workflow has run and before anything is refused, which the host logs."""
    lines = log()
    assert len(lines) > 20
    assert not [line for line in lines if "Traceback" in line or "Exception" in line]
    assert not [line for line in lines if re.search(r"warn|error|fail", line, re.I) and "dynamicrafter" in line.lower()]


def test_a_missing_file_is_named_with_the_place_to_get_it(server: comfyui.ComfyUI, prompt: Callable[..., dict]) -> None:
    missing = prompt("animate_image")
    missing["1"]["inputs"]["checkpoint"] = "dynamicrafter_1024.ckpt"
    with pytest.raises(comfyui.RunError, match=r"dynamicrafter_1024\.ckpt.*Doubiiu/DynamiCrafter_1024"):
        server.queue(missing)


def test_every_node_is_listed_with_a_tooltip_on_every_input(object_info: dict[str, Any]) -> None:
    ours = {name: info for name, info in object_info.items() if info["python_module"].startswith("custom_nodes.")}
    assert set(ours) == set(node_ids())
    bare = [
        f"{name}.{key}"
        for name, info in ours.items()
        for group in ("required", "optional")
        for key, (_, options) in info["input"].get(group, {}).items()
        if not options.get("tooltip")
    ]
    assert not bare
    assert all(info["description"] and all(info["output_tooltips"]) for info in ours.values())


def node_ids() -> list[str]:
    """As ComfyUI-Manager's scanner finds them, without running anything."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in repository.files(".py", hosts.ROOT / "nodes"))
    return re.findall(r"Schema\(\s*node_id=\"(\w+)\"", sources)


def test_the_host_serves_workflows_help_translations_and_blueprints(server: comfyui.ComfyUI) -> None:
    assert set(server.get("/workflow_templates")[comfyui.PACK]) == set(EXPECTED)
    assert set(server.get("/i18n")) >= {"en", "zh", "ja", "ko"}
    blueprints = server.get("/global_subgraphs").values()
    assert {one["name"] for one in blueprints if comfyui.PACK in one["info"]["node_pack"]} == {
        path.stem for path in (hosts.ROOT / "subgraphs").glob("*.json")
    }
