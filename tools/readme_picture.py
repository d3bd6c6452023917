"""Write the moving pictures of the README, of the embedded model's clips of held-out scenes.

python tools/readme_picture.py      docs/first_clip.webp: three scenes move as their prompts say; docs/film.webp: a film of them
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import hosts
import numpy as np
from PIL import Image

PROMPTS = ("zoom in", "the camera pans left", "zoom out")
SCENES = (3, 7, 12)  # numbers of pictures that training never drew
SHOTS = """\
seed: 1

scene1.png | zoom in | 1.5 s | dissolve 0.5 s
scene2.png | the camera pans left | 1.5 s | continue
           | it gets dark | 1.5 s | morph
scene3.png | zoom out | 1.5 s
"""
SIDE, GAP = 160, 8  # pixels of a panel, and between two
FPS = 8
CLIPS, FILM = hosts.ROOT / "docs" / "first_clip.webp", hosts.ROOT / "docs" / "film.webp"


def draw_scenes(folder: Path) -> list[Path]:
    import torch

    from dynamicrafter_core.training.clips import ProceduralClips

    source = ProceduralClips(64, 64, 1, ["still"], (8, 32), 0, torch.device("cpu"))
    paths = []
    for number, scene in enumerate(source("held-out", SCENES).pixels[:, :, 0], 1):  # 3 h w, -1..1
        paths.append(folder / f"scene{number}.png")
        Image.fromarray(((scene + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(paths[-1])
    return paths


def write(path: Path, clips: list[np.ndarray]) -> None:
    """Clips [T,H,W,3] side by side."""
    pages = []
    for frames in zip(*clips, strict=True):
        page = Image.new("RGB", (len(frames) * (SIDE + GAP) - GAP, SIDE), "white")
        for place, frame in enumerate(frames):
            page.paste(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (place * (SIDE + GAP), 0))
        pages.append(page)
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=1000 // FPS, loop=0, quality=80, method=6)
    sys.stdout.write(f"{path.relative_to(hosts.ROOT)}: {path.stat().st_size // 1024} KiB\n")


def main() -> None:
    from dynamicrafter_core import Pipeline, make_film, read_script
    from dynamicrafter_core.media.frames import read_clip

    pipeline = Pipeline("embedded")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = draw_scenes(folder)
        clips = [pipeline.animate(*each, seed=1) for each in zip(scenes, PROMPTS, strict=True)]
        write(CLIPS, [clip.frames.numpy() for clip in clips])
        (folder / "story.txt").write_text(SHOTS)
        make_film(pipeline, read_script(folder / "story.txt"), folder / "film")
        write(FILM, [np.stack(read_clip(folder / "film"))])


if __name__ == "__main__":
    main()
