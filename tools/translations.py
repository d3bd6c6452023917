"""The English texts of the nodes, as the host reports them: what translators start from, locales/en/nodeDefs.json."""

from __future__ import annotations

from typing import Any


def ours(object_info: dict[str, Any]) -> dict[str, Any]:
    return {name: info for name, info in object_info.items() if info["python_module"].startswith("custom_nodes.")}


def english(object_info: dict[str, Any]) -> dict[str, Any]:
    """Node id -> its texts, inputs by their id and outputs by their number."""
    return {name: texts(info) for name, info in sorted(ours(object_info).items())}


def texts(info: dict[str, Any]) -> dict[str, Any]:
    inputs = {
        key: {"name": options.get("display_name") or key, "tooltip": options["tooltip"]}
        for group in ("required", "optional")
        for key, (_, options) in info["input"].get(group, {}).items()
    }
    outputs = {
        str(number): {"name": name, "tooltip": tooltip}
        for number, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
    }
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": inputs,
        "outputs": outputs,
    }
