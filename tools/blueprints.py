"""Subgraph blueprints: a whole workflow as one node, with the few widgets that matter on its face.

The host serves `subgraphs/*.json`; the page lists them beside the nodes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import example_parts
import hosts
from graph import Graph, Node

FOLDER = hosts.ROOT / "subgraphs"
INSIDE, OUTSIDE = -10, -20  # what the page calls a subgraph's own inputs and outputs


@dataclass(frozen=True)
class Blueprint:
    name: str
    mode: str
    description: str
    images: tuple[str, ...]


BLUEPRINTS = (
    Blueprint("Animate image", "animate", "An image and a prompt become a video.", ("image",)),
    Blueprint("Interpolate", "interpolate", "A video that leads from one image to another.", ("image", "end_image")),
    Blueprint("Loop", "loop", "A video that ends where it begins.", ("image",)),
)
# Widgets of the inner nodes that the one node shows, in its order
FACE = (
    ("DynamiCrafterLoad", "checkpoint"),
    ("Prompt", "text"),
    ("Negative prompt", "text"),
    ("DynamiCrafterVisualGuidance", "width"),
    ("DynamiCrafterVisualGuidance", "height"),
    ("DynamiCrafterVisualGuidance", "frames"),
    ("DynamiCrafterVisualGuidance", "fs"),
    ("DynamiCrafterSampler", "seed"),
    ("DynamiCrafterSampler", "control_after_generate"),
    ("DynamiCrafterSampler", "steps"),
    ("DynamiCrafterSampler", "cfg_text"),
    ("DynamiCrafterSampler", "cfg_image"),
    ("CreateVideo", "fps"),
)


def describe(graph: Graph, blueprint: Blueprint) -> None:
    """The workflow without its images and without saving; images come in from outside."""
    loaded = example_parts.load(graph)
    texts = example_parts.prompts(graph, loaded["CLIP"], "")
    nothing: Any = None
    guided = example_parts.guide(graph, loaded, nothing, texts, blueprint.mode)
    if "end_image" in blueprint.images:
        guided.values["end_image"] = None
    frames = example_parts.sample(graph, loaded, guided)
    graph.add("CreateVideo", 4, images=frames, fps=8.0)


def find(graph: Graph, name: str) -> Node:
    return next(node for node in graph.nodes if name in (node.title, node.kind.name))


def identity(*names: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("dynamicrafter", "subgraphs", *names))))


def page(blueprint: Blueprint, object_info: dict[str, Any]) -> dict[str, Any]:
    graph = Graph(object_info)
    describe(graph, blueprint)
    inner = graph.page(blueprint.name)
    nodes = {node["id"]: node for node in inner["nodes"]}
    links = [
        dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
        for link in inner["links"]
    ]

    def connect(origin: tuple[int, int], target: tuple[int, int], kind: str) -> int:
        number = len(links) + 1
        links.append(
            {
                "id": number,
                "origin_id": origin[0],
                "origin_slot": origin[1],
                "target_id": target[0],
                "target_slot": target[1],
                "type": kind,
            }
        )
        return number

    right = max(node["pos"][0] + node["size"][0] for node in nodes.values()) + 120
    inputs, outputs = [], []
    for slot, name in enumerate(blueprint.images):
        made = []
        for node in nodes.values():
            for index, socket in enumerate(node["inputs"]):
                if socket["name"] == name and socket["type"] == "IMAGE":
                    socket["link"] = connect((INSIDE, slot), (node["id"], index), "IMAGE")
                    made.append(socket["link"])
        inputs.append(socket_of(blueprint, name, "IMAGE", made, (-60, 40 + 20 * slot)))
    for slot, (name, source) in enumerate(
        (("VIDEO", find(graph, "CreateVideo")), ("IMAGE", find(graph, "DynamiCrafterDecode")))
    ):
        number = connect((source.id, 0), (OUTSIDE, slot), name)
        nodes[source.id]["outputs"][0]["links"].append(number)
        outputs.append(socket_of(blueprint, name, name, [number], (right + 20, 40 + 20 * slot)))

    definition = {
        "id": identity(blueprint.name),
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": len(nodes), "lastLinkId": len(links), "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": blueprint.name,
        "description": blueprint.description,
        "category": "DynamiCrafter",
        "inputNode": {"id": INSIDE, "bounding": [-160, 20, 120, 40 + 20 * len(inputs)]},
        "outputNode": {"id": OUTSIDE, "bounding": [right, 20, 120, 80]},
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": list(nodes.values()),
        "groups": [],
        "links": links,
        "extra": {},
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [face(blueprint, graph)],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [definition]},
        "extra": {},
    }


def socket_of(
    blueprint: Blueprint, name: str, kind: str, links: list[int], position: tuple[int, int]
) -> dict[str, Any]:
    return {
        "id": identity(blueprint.name, name),
        "name": name,
        "type": kind,
        "linkIds": links,
        "pos": list(position),
    }


def face(blueprint: Blueprint, graph: Graph) -> dict[str, Any]:
    """The one node that contains all others."""
    return {
        "id": 1,
        "type": identity(blueprint.name),
        "pos": [0, 0],
        "size": [400, 460],
        "flags": {},
        "order": 0,
        "mode": 0,
        "title": blueprint.name,
        "inputs": [{"name": name, "type": "IMAGE", "link": None} for name in blueprint.images],
        "outputs": [{"name": kind, "type": kind, "links": []} for kind in ("VIDEO", "IMAGE")],
        "properties": {"proxyWidgets": [[str(find(graph, node).id), widget] for node, widget in FACE]},
        "widgets_values": [],
    }


def files(object_info: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for blueprint in BLUEPRINTS:
        yield FOLDER / f"{blueprint.name}.json", page(blueprint, object_info)
