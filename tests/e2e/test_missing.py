"""A workflow names a file that is not there: the page says which one and where to get it, in the node itself."""

import json
from collections.abc import Iterator
from typing import Any

import browser
import hosts
import pytest

SAID = {
    "DynamiCrafterLoad": (
        "checkpoint",
        "dynamicrafter_1024_gone.ckpt",
        "dynamicrafter_1024_gone.ckpt is not in models/checkpoints. By its name it is DynamiCrafter 1024, published on the "
        "Hugging Face hub as Doubiiu/DynamiCrafter_1024: model.ckpt: put the file there under this name, or choose another.",
    ),
    "DynamiCrafterLoadParts": (
        "unet",
        "tooncrafter_gone.safetensors",
        "tooncrafter_gone.safetensors is not in models/diffusion_models or models/checkpoints. By its name it is ToonCrafter "
        "512, published on the Hugging Face hub as Doubiiu/ToonCrafter: model.ckpt: put the file there under this name, or "
        "choose another.",
    ),
    "DynamiCrafterSampler": (
        "initial_noise",
        "noise_gone.pt",
        "noise_gone.pt is not in models/diffusion_models or models/checkpoints. Files of initial noise are published on the "
        "Hugging Face hub, as GraceZhao/DynamiCrafter-Analytic-Init (DynamiCrafter) and GraceZhao/VideoCrafter-Analytic-Init "
        "(VideoCrafter): put one there under this name, or choose another or none.",
    ),
}


@pytest.fixture(params=[False, True], ids=["canvas", "newer"])
def page(request: pytest.FixtureRequest, tab: browser.Tab) -> Iterator[browser.Tab]:
    """The page of either kind."""
    choose = "(on) => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
    tab.page.evaluate(choose, request.param)
    yield tab
    tab.page.evaluate(choose, False)


def without_its_file(kind: str) -> dict[str, Any]:
    """The first workflow, with a node of this kind that names a file nobody has."""
    graph = json.loads((hosts.ROOT / "workflows" / "animate_image.json").read_text(encoding="utf-8"))
    if kind == "DynamiCrafterLoadParts":  # which gives the MODEL instead of the loader
        (loader,) = (node for node in graph["nodes"] if node["type"] == "DynamiCrafterLoad")
        names = ("unet", "projector", "variant", "weight_dtype")
        parts = {
            **loader,
            "id": graph["last_node_id"] + 1,
            "type": kind,
            "pos": [-400, 0],
            "inputs": [{"name": name, "type": "COMBO", "widget": {"name": name}, "link": None} for name in names],
            "outputs": loader["outputs"][:1],
            "properties": {"Node name for S&R": kind},
            "widgets_values": ["", "in the same file", "auto", "default"],
        }
        loader["outputs"] = [{**loader["outputs"][0], "links": []}, *loader["outputs"][1:]]
        graph["links"] = [
            [link, parts["id"], *rest] if (source, rest[0]) == (loader["id"], 0) else [link, source, *rest]
            for link, source, *rest in graph["links"]
        ]
        graph["nodes"].append(parts)
        graph["last_node_id"] = parts["id"]
    return graph


@pytest.mark.parametrize("kind", SAID)
def test_page_says_which_file_is_missing_and_where_to_get_it(kind: str, page: browser.Tab) -> None:
    widget, name, sentence = SAID[kind]
    page.load(without_its_file(kind))
    page.page.evaluate(
        """([kind, widget, name]) => {
            const node = window.app.graph.nodes.find((one) => one.type === kind)
            node.widgets.find((one) => one.name === widget).value = name
        }""",
        [kind, widget, name],
    )
    page.fit()
    page.page.keyboard.press("Control+Enter")
    shown = page.page.get_by_text(sentence)
    shown.first.wait_for(state="visible", timeout=30_000)
    assert page.red_nodes()
    assert page.errors == []
