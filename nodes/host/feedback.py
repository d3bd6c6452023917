"""What a node found out, written under it in the graph."""

from typing import Any

from server import PromptServer


def show(node: Any, text: str) -> None:
    """`node` is a node class whose schema asks for its unique_id; outside a running graph nobody is there to read."""
    node_id = getattr(getattr(node, "hidden", None), "unique_id", None)
    server = getattr(PromptServer, "instance", None)
    if node_id and server is not None:
        server.send_progress_text(text, node_id)


def refuse(node: Any, said: str) -> str:
    """What a node answers when it is asked whether it can run: the page's own message hides the sentence behind two clicks."""
    show(node, said)
    return said
