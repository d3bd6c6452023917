"""What a node found out, written under it in the graph."""

from typing import Any

from server import PromptServer


def show(node: Any, text: str) -> None:
    """`node` is a node class whose schema asks for its unique_id; outside a running graph nobody is there to read."""
    node_id = getattr(getattr(node, "hidden", None), "unique_id", None)
    server = getattr(PromptServer, "instance", None)
    if not node_id or server is None:
        return
    for client, about in list(server.sockets_metadata.items()):
        # Pages tell the host their features; scripts do not, and many of them take all bytes that arrive for pictures.
        if about["feature_flags"]:
            server.send_progress_text(text, node_id, client)


def refuse(node: Any, said: str) -> str:
    """What a node answers when it is asked whether it can run: the page's own message hides the sentence behind two clicks."""
    show(node, said)
    return said
