"""Write docs/first_clip.webp, the picture at the head of the README: clips of the embedded model, side by side.

python tools/readme_picture.py      each of three held-out scenes moves as its prompt says
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import hosts
from PIL import Image

PROMPTS = ("zoom in", "the camera pans left", "zoom out")
SCENES = (3, 7, 12)  # numbers of pictures that training never drew
SIDE, GAP = 160, 8  # pixels of a panel, and between two
PICTURE = hosts.ROOT / "docs" / "first_clip.webp"


def main() -> None:
    import torch

    from dynamicrafter_core import Pipeline
    from dynamicrafter_core.training.clips import ProceduralClips

    source = ProceduralClips(64, 64, 1, ["still"], (8, 32), 0, torch.device("cpu"))
    scenes = source("held-out", SCENES).pixels[:, :, 0]  # b 3 h w, -1..1
    pipeline = Pipeline("embedded")
    with tempfile.TemporaryDirectory() as folder:
        clips = []
        for scene, prompt in zip(scenes, PROMPTS, strict=True):
            picture = Path(folder) / "scene.png"
            Image.fromarray(((scene + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(picture)
            clips.append(pipeline.animate(picture, prompt, seed=1))
    pages = []
    for frames in zip(*(clip.frames for clip in clips), strict=True):
        page = Image.new("RGB", (len(frames) * (SIDE + GAP) - GAP, SIDE), "white")
        for place, frame in enumerate(frames):
            large = Image.fromarray(frame.numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            page.paste(large, (place * (SIDE + GAP), 0))
        pages.append(page)
    duration = round(1000 / clips[0].fps)
    pages[0].save(PICTURE, save_all=True, append_images=pages[1:], duration=duration, loop=0, quality=80, method=6)
    sys.stdout.write(f"{PICTURE.relative_to(hosts.ROOT)}: {PICTURE.stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    main()
