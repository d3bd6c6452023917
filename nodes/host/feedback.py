"""A node's message, shown under it in the graph."""

from typing import Any

from server import PromptServer


def show(node: Any, text: str) -> None:
    """`node` is a node class whose schema asks for its unique_id; outside a running graph there is no page to show it."""
    node_id = getattr(getattr(node, "hidden", None), "unique_id", None)
    server = getattr(PromptServer, "instance", None)
    if not node_id or server is None:
        return
    for client, about in list(server.sockets_metadata.items()):
        # Pages tell the host their features; scripts do not, and many of them treat all bytes they receive as pictures.
        if about["feature_flags"]:
            server.send_progress_text(text, node_id, client)


def refuse(node: Any, said: str) -> str:
    """A node's validation error. It is also shown under the node: the page's own message needs two clicks."""
    show(node, said)
    return said
