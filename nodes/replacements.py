"""Nodes of older packs that ours stand in for: the host offers the exchange when it opens a workflow that misses them."""


async def register_replacements() -> None:
    pass
