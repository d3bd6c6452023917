"""A file's towers are checked by these shapes where open_clip is not installed, so they must be open_clip's."""

import subprocess
import sys
from dataclasses import replace

import pytest

from dynamicrafter_core.models.encoders import TextTowerConfig, VisionTowerConfig
from dynamicrafter_core.models.parts import build
from dynamicrafter_core.models.tower_shapes import text_shapes, vision_shapes

CONFIGS = [
    (text_shapes, TextTowerConfig()),
    (text_shapes, TextTowerConfig(64, layers=3, heads=2, mlp_width=100, vocabulary=70, context_length=9, embed_dim=32)),
    (vision_shapes, VisionTowerConfig()),
    (
        vision_shapes,
        replace(VisionTowerConfig(), width=64, layers=2, heads=2, mlp_width=100, image_size=28, embed_dim=8),
    ),
]


@pytest.mark.parametrize(("shapes", "config"), CONFIGS)
def test_towers_have_the_keys_and_shapes_that_open_clip_gives_them(shapes, config) -> None:
    built = {key: tuple(tensor.shape) for key, tensor in build(config, device="meta").state_dict().items()}
    assert shapes(config) == built
    assert list(shapes(config)) == list(built)


@pytest.mark.slow
def test_every_part_of_a_variant_is_known_without_open_clip_and_kornia() -> None:
    code = (
        "import sys; sys.modules['open_clip'] = sys.modules['kornia'] = None\n"
        "from dynamicrafter_core.families import FAMILIES\n"
        "sys.exit(len(FAMILIES['dynamicrafter_512'].checkpoint_shapes()) < 2000)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
