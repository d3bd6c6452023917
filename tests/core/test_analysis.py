"""The analysis of a model: its trials, what is measured of them, and the sheets and figures it writes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from micro import ANIMATE, Spy, picture
from PIL import Image

from dynamicrafter_core.analysis.trials import AMOUNTS, LAMBDAS, LAYERS, PARTS, measured, shaken, try_weights
from dynamicrafter_core.cli.main import main
from dynamicrafter_core.models.layer_kinds import temporal_keys
from dynamicrafter_core.pipeline.pipeline import Pipeline

ModelOf = Callable[[str], Path]


def test_motion_and_likeness_are_right_on_known_clips() -> None:
    scene = torch.randint(0, 200, (32, 32, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    still = measured("all", 1, scene.expand(4, -1, -1, -1))
    assert (still.motion, still.likeness) == (0, pytest.approx(1))
    brighter = measured("all", 1, torch.stack([scene, scene + 10, scene + 20, scene + 30]))
    assert brighter.motion == pytest.approx(10) and brighter.likeness < 1
    other = measured("all", 1, torch.stack([scene, *[scene.flip(0)] * 3]))
    assert other.likeness < brighter.likeness


@pytest.mark.slow
@pytest.mark.parametrize("layers", LAYERS)
def test_noise_lies_on_the_layers_it_is_named_for_and_goes_again(layers: str, model_of: ModelOf) -> None:
    pipeline = Pipeline(model_of(ANIMATE), keep_loaded=True)

    def weights() -> dict[str, torch.Tensor]:
        return pipeline.parts.use("unet", lambda unet: {key: value.clone() for key, value in unet.named_parameters()})

    temporal = pipeline.parts.use("unet", temporal_keys)
    before = weights()
    with shaken(pipeline, layers, 0.2):
        during = weights()
    for key, value in before.items():
        meant = value.ndim > 1 and (key in temporal) == (layers == "temporal") and bool(value.std() > 0)
        assert torch.equal(during[key], value) != meant, key
        if meant and value.numel() > 500:
            added = (during[key] - value).std() / value.std()
            assert 0.1 < added < 0.3, key
    assert all(torch.equal(weights()[key], value) for key, value in before.items())


@pytest.mark.slow
def test_without_noise_the_clip_is_the_models_own(model_of: ModelOf) -> None:
    pipeline = Pipeline(model_of(ANIMATE), keep_loaded=True)
    trials = list(try_weights(pipeline, picture(), "a", {"steps": 1}))
    assert [(trial.group, trial.value) for trial in trials] == [(group, value) for group in LAYERS for value in AMOUNTS]
    own = pipeline.animate(picture(), "a", steps=1).frames
    assert torch.equal(trials[0].frames, own) and not torch.equal(trials[3].frames, own)


@pytest.mark.slow
def test_the_command_line_writes_sheets_and_figures(
    model_of: ModelOf, spy: Spy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture()).save("scene.png")
    spy.answer = lambda out: out
    asked = ["analyse", "scene.png", "a", "-m", str(model_of(ANIMATE)), "--steps", "1"]
    assert main([*asked, "--quiet"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scene-lambda.json",
        "scene-lambda.png",
        "scene-weights.json",
        "scene-weights.png",
        "scene.png",
    ]
    figures = json.loads(Path("scene-lambda.json").read_text())
    assert [(row["group"], row["value"]) for row in figures] == [(group, value) for group in PARTS for value in LAMBDAS]
    assert all(row["motion"] > 0 and 0 < row["likeness"] <= 1 for row in figures)
    assert Image.open("scene-lambda.png").height > Image.open("scene-weights.png").height
    assert main([*asked, "-o", "sheet.png"]) == 2
    assert "output sheet.png has a suffix; give a name without one" in capsys.readouterr().err
    assert main([*asked, "-o", "nowhere/sheet"]) == 2
