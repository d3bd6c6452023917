"""From nothing to a video: runs workflows/animate_image.json in the real ComfyUI, headless.

    python tools/demo.py [--checkpoint FILE] [--image FILE] [--prompt TEXT]

Without a checkpoint it takes the small model that comes with the pack.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import comfyui
import example_parts
import hosts

OUT = hosts.ROOT / "out" / "demo"


def link(base: Path, checkpoint: Path) -> str:
    """Where ComfyUI finds it, and its name there."""
    target = base / "models" / "checkpoints" / checkpoint.name
    if not target.exists():
        target.symlink_to(checkpoint.resolve()) if sys.platform != "win32" else shutil.copy(checkpoint, target)
    return checkpoint.name


def set_inputs(prompt: dict[str, Any], kind: str, title: str = "", **values: Any) -> None:
    for node in prompt.values():
        if node["class_type"] == kind and (not title or node["_meta"]["title"] == title):
            node["inputs"] |= {key: value for key, value in values.items() if value is not None}


def contact_sheet(video: Path) -> Path:
    """All frames in one picture beside the video."""
    import av
    import torch

    from dynamicrafter_core.media.saving import save_clip

    with av.open(video) as container:
        rate = float(container.streams.video[0].average_rate)
        frames = torch.stack(
            [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        )
    return save_clip(frames, video.with_suffix(".png"), rate)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Run the animate_image workflow in ComfyUI and show where the video is."
    )
    parser.add_argument("--checkpoint", type=Path, help="a released checkpoint")
    parser.add_argument("--image", type=Path, help="the image to animate (default: ComfyUI's own example)")
    parser.add_argument("--prompt", help="what should happen")
    chosen = parser.parse_args(arguments)
    for file in (chosen.checkpoint, chosen.image):
        if file and not file.is_file():
            parser.exit(1, f"{file} is not there.\n")
    try:
        host = hosts.find_host()
    except hosts.HostError as error:
        parser.exit(1, f"{error}\n")
    comfyui.prepare(host, OUT)
    name = link(OUT, chosen.checkpoint) if chosen.checkpoint else example_parts.EMBEDDED
    if chosen.image:
        shutil.copy(chosen.image, OUT / "input")
    prompt = json.loads((hosts.ROOT / "workflows" / "api" / "animate_image.json").read_text(encoding="utf-8"))
    set_inputs(prompt, "DynamiCrafterLoad", checkpoint=name)
    set_inputs(prompt, "LoadImage", image=chosen.image and chosen.image.name)
    set_inputs(prompt, "CLIPTextEncode", "Prompt", text=chosen.prompt)
    try:
        with comfyui.ComfyUI(host, OUT, *comfyui.device_arguments()) as server:
            (video,) = server.run(prompt, patience=3600)
    except comfyui.RunError as error:
        parser.exit(1, f"{error}\n")
    sys.stdout.write(f"\nvideo          {video}\ncontact sheet  {contact_sheet(video)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
