"""A public client of ComfyUI's API, written by others, queues our workflows as it finds them and gets the video."""

import io

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
