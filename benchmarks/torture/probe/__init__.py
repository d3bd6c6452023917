"""A custom node pack without nodes, linked into a server under a soak: it tells what the process holds once nothing is wanted any more."""

import ctypes
import gc
import sys
from pathlib import Path

import psutil
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, type] = {}


@PromptServer.instance.routes.get("/probe")
async def held(request: web.Request) -> web.Response:
    """Bytes resident after Python has collected and the C library has given back what is free."""
    gc.collect()
    if sys.platform == "linux" and Path("/proc/self/statm").exists():
        ctypes.CDLL(None).malloc_trim(0)
    return web.json_response(
        {"held": psutil.Process().memory_info().rss, "flags": len(PromptServer.instance.prompt_queue.flags)}
    )
