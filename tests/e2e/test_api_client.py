"""Our workflows from scripts: by a public client of ComfyUI's API, written by others, and by the lines in the documents."""

import ast
import io
import re

import av
import comfyui
import hosts
import pytest
from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

WORKFLOWS = hosts.ROOT / "workflows" / "api"


@pytest.fixture(scope="module")
def client(server: comfyui.ComfyUI) -> ComfyApiWrapper:
    return ComfyApiWrapper(server.url)


def test_every_node_of_every_workflow_has_a_title_to_find_it_by() -> None:
    for path in WORKFLOWS.glob("*.json"):
        assert all(ComfyWorkflowWrapper(path).list_nodes()), path.name


def test_the_client_sets_inputs_by_title_and_gets_the_video(client: ComfyApiWrapper) -> None:
    workflow = ComfyWorkflowWrapper(WORKFLOWS / "animate_image.json")
    workflow.set_node_param("Prompt", "text", "the camera zooms in")
    workflow.set_node_param("DynamiCrafter Sampler", "steps", 2)
    workflow.set_node_param("DynamiCrafter Visual Guidance", "frames", 5)
    (video,) = client.queue_and_wait_images(workflow, "Save Video").values()
    with av.open(io.BytesIO(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_the_lines_in_the_documents_get_the_video(
    server: comfyui.ComfyUI, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (hosts.ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) if "SERVER" in block]
    assert len(re.findall(r"^.+$", block, re.M)) <= 18
    monkeypatch.chdir(hosts.ROOT)
    few = 'nodes["DynamiCrafter Sampler"]["steps"] = 1\nprompt_id ='
    exec(block.replace("http://127.0.0.1:8188", server.url).replace("prompt_id =", few), {})  # noqa: S102 - our own document
    outputs = ast.literal_eval(capsys.readouterr().out)
    assert [file["filename"] for output in outputs.values() for file in output.get("images", ())][0].endswith(".mp4")
