"""Workflows from compact descriptions: one description gives the graph that the page opens and the prompt that HTTP runs.

    graph = Graph(object_info)
    load = graph.add("DynamiCrafterLoad", 0, checkpoint="dynamicrafter_512.ckpt")
    text = graph.add("CLIPTextEncode", 1, clip=load["CLIP"], text="a boat")

What a description leaves out is the node's default. The number after the node's type is the column it stands in.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
COLUMN, GAP, TITLE, ROW = 340, 60, 30, 24
HEIGHTS = {
    "LoadImage": 330,
    "SaveVideo": 330,
    "CLIPTextEncode": 150,
    "CreateVideo": 120,
    "DynamiCrafterFilm": 860,
}  # of nodes that show more than rows
SHOWS_TEXT = {
    "DynamiCrafterLoad": 110,
    "DynamiCrafterVisualGuidance": 110,
    "DynamiCrafterCameraPath": 100,
    "DynamiCrafterSampler": 60,
}  # when they have run
NOTE_COLORS = {"color": "#432", "bgcolor": "#653"}


@dataclass(frozen=True)
class Input:
    name: str
    type: str
    options: dict[str, Any]
    optional: bool
    choices: tuple[Any, ...] = ()

    @property
    def is_widget(self) -> bool:
        return self.type in WIDGETS

    @property
    def default(self) -> Any:
        fallback = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(self.type)
        return self.options.get("default", self.choices[0] if self.choices else fallback)


def grown(name: str, template: dict[str, Any]) -> list[Input]:
    """The sockets of an input that grows as it is connected; all optional, so that only connected ones are kept."""
    ((kind, _),) = template["input"]["required"].values()
    return [Input(f"{name}.{template['prefix']}{number}", kind, {}, True) for number in range(template["max"])]


@dataclass(frozen=True)
class Kind:
    """A node type as /object_info describes it."""

    name: str
    title: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]  # (name, type)
    core: bool

    @staticmethod
    def read(name: str, info: dict[str, Any]) -> Kind:
        inputs = []
        for group in ("required", "optional"):
            for key in info["input_order"].get(group, ()):
                kind, options = (*info["input"][group][key], {})[:2]
                if kind == "COMFY_AUTOGROW_V3":
                    inputs += grown(key, options["template"])
                    continue
                choices = kind if isinstance(kind, list) else options.get("options") or ()
                if choices and isinstance(choices[0], dict):
                    choices = [choice["key"] for choice in choices]
                # Newer hosts have combos that carry further inputs; the choice itself is the same.
                kind = "COMBO" if isinstance(kind, list) or kind == "COMFY_DYNAMICCOMBO_V3" else kind
                inputs.append(Input(key, kind, options, group == "optional", tuple(choices)))
        core = not info["python_module"].startswith("custom_nodes")
        # Newer hosts give their output nodes outputs that older ones do not have; nothing here uses them.
        unused = core and info["output_node"]
        outputs = () if unused else tuple(zip(info["output_name"], info["output"], strict=True))
        return Kind(name, info["display_name"] or name, tuple(inputs), outputs, core)


@dataclass(frozen=True)
class Output:
    node: Node
    slot: int

    @property
    def type(self) -> str:
        return self.node.kind.outputs[self.slot][1]

    def past_bypassed(self) -> Output:
        """Where the data comes from when bypassed nodes hand on their first input of the same type."""
        if not self.node.bypassed:
            return self
        given = (value for value in self.node.values.values() if isinstance(value, Output))
        return next(value for value in given if value.type == self.type).past_bypassed()


@dataclass(eq=False)
class Node:
    id: int
    kind: Kind
    column: int
    values: dict[str, Any]
    title: str
    height: int
    properties: dict[str, Any] = field(default_factory=dict)
    bypassed: bool = False  # what comes in goes out again, as if the node were not there
    position: tuple[int, int] = (0, 0)

    def __getitem__(self, name: str) -> Output:
        return Output(self, [output for output, _ in self.kind.outputs].index(name))

    def widgets(self) -> list[Input]:
        """Those to save: not the optional ones left unset, which older hosts may not know."""
        return [one for one in self.kind.inputs if one.is_widget and (not one.optional or one.name in self.values)]

    def sockets(self) -> list[Input]:
        return [one for one in self.kind.inputs if not one.is_widget and (not one.optional or one.name in self.values)]

    def value(self, widget: Input) -> Any:
        return self.values.get(widget.name, widget.default)

    def widget_values(self) -> list[Any]:
        """In the page's order, with the widgets the page adds: what to do with a seed, a button to upload."""
        values = []
        for widget in self.widgets():
            values.append(self.value(widget))
            if widget.options.get("control_after_generate"):
                values.append("fixed")
            if widget.options.get("image_upload"):
                values.append("image")
        return values

    def prompt(self) -> dict[str, Any]:
        inputs = {}
        for one in self.kind.inputs:
            given = self.values.get(one.name)
            if isinstance(given, Output):
                source = given.past_bypassed()
                inputs[one.name] = [str(source.node.id), source.slot]
            elif one in self.widgets():
                inputs[one.name] = self.value(one)
        return {
            "class_type": self.kind.name,
            "inputs": inputs,
            # As ComfyUI exports it: clients of the API find nodes by their titles.
            "_meta": {"title": self.title or self.kind.title},
        }


@dataclass
class Note:
    id: int
    column: int
    text: str
    title: str
    height: int
    position: tuple[int, int] = (0, 0)


class Graph:
    """Nodes in columns, from left to right as the data flows; inside a column from top to bottom as they are added."""

    def __init__(self, object_info: dict[str, Any]) -> None:
        self.object_info = object_info
        self.nodes: list[Node] = []
        self.notes: list[Note] = []
        self.stack: list[Node | Note] = []

    def add(
        self, kind: str, column: int, *, title: str = "", models: Any = (), bypassed: bool = False, **values: Any
    ) -> Node:
        read = Kind.read(kind, self.object_info[kind])
        unknown = set(values) - {one.name for one in read.inputs}
        if unknown:
            raise ValueError(f"{kind} has no input {', '.join(sorted(unknown))}")
        node = Node(len(self.stack) + 1, read, column, values, title, 0)
        unset = [one for one in read.inputs if one.is_widget and one not in node.widgets()]  # shown, though not saved
        rows = max(len(node.sockets()), len(read.outputs)) + len(node.widget_values()) + len(unset)
        node.height = HEIGHTS.get(kind, 20 + ROW * rows) + SHOWS_TEXT.get(kind, 0)
        node.properties = {
            "Node name for S&R": kind,
            "cnr_id": "comfy-core" if read.core else "dynamicrafter",
            **({"models": list(models)} if models else {}),
        }
        node.bypassed = bypassed
        self.nodes.append(node)
        self.stack.append(node)
        return node

    def note(self, text: str, column: int, title: str, height: int = 180) -> None:
        note = Note(len(self.stack) + 1, column, text.strip(), title, height)
        self.notes.append(note)
        self.stack.append(note)

    def prompt(self) -> dict[str, Any]:
        """What /prompt takes."""
        return {str(node.id): node.prompt() for node in self.nodes if not node.bypassed}

    def arrange(self) -> None:
        floor: dict[int, int] = {}
        for one in self.stack:
            top = floor.get(one.column, TITLE)
            one.position = (one.column * (COLUMN + GAP), top)
            floor[one.column] = top + one.height + TITLE + GAP // 2

    def links(self) -> list[tuple[Output, Node, int]]:
        return [
            (node.values[one.name], node, slot)
            for node in self.nodes
            for slot, one in enumerate(node.sockets())
            if isinstance(node.values.get(one.name), Output)
        ]

    def page(self, name: str) -> dict[str, Any]:
        """What the page saves and opens."""
        self.arrange()
        links = self.links()
        nodes = [self._node(node, links) for node in self.nodes] + [self._note(note) for note in self.notes]
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"dynamicrafter/{name}")),
            "revision": 0,
            "last_node_id": len(self.stack),
            "last_link_id": len(links),
            "nodes": sorted(nodes, key=lambda one: one["id"]),
            "links": [
                [number, source.node.id, source.slot, node.id, slot, source.type]
                for number, (source, node, slot) in enumerate(links, 1)
            ],
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _node(self, node: Node, links: list[tuple[Output, Node, int]]) -> dict[str, Any]:
        into = {slot: number for number, (_, target, slot) in enumerate(links, 1) if target is node}
        sockets = [
            {"name": one.name, "type": one.type, "link": into.get(slot)} for slot, one in enumerate(node.sockets())
        ]
        widgets = [
            {"name": one.name, "type": one.type, "widget": {"name": one.name}, "link": None} for one in node.widgets()
        ]
        outputs = [
            {
                "name": name,
                "type": type,
                "links": [
                    number
                    for number, (source, _, _) in enumerate(links, 1)
                    if source.node is node and source.slot == slot
                ],
            }
            for slot, (name, type) in enumerate(node.kind.outputs)
        ]
        return {
            "id": node.id,
            "type": node.kind.name,
            "pos": list(node.position),
            "size": [COLUMN, node.height],
            "flags": {},
            "order": node.id - 1,
            "mode": 4 if node.bypassed else 0,
            **({"title": node.title} if node.title else {}),
            "inputs": sockets + widgets,
            "outputs": outputs,
            "properties": node.properties,
            "widgets_values": node.widget_values(),
        }

    def _note(self, note: Note) -> dict[str, Any]:
        return {
            "id": note.id,
            "type": "MarkdownNote",
            "pos": list(note.position),
            "size": [COLUMN, note.height],
            "flags": {},
            "order": note.id - 1,
            "mode": 0,
            "title": note.title,
            "inputs": [],
            "outputs": [],
            "properties": {},
            "widgets_values": [note.text],
            **NOTE_COLORS,
        }
