"""No node of the host that patches a MODEL fails on ours or does nothing without a word.

WRITE_DOCS=1 make test ARGS="tests/host/test_model_nodes.py"    writes the table of docs/model_nodes.md
"""

import os
import re
from pathlib import Path

import pytest
from model_nodes import FAILS_IN_HOST, SAME, Row, table, walk

DOCUMENT = Path(__file__).parents[2] / "docs" / "model_nodes.md"
START, END = "<!-- table -->\n", "<!-- end -->"


@pytest.fixture(scope="module")
def rows(extras, run, sample, load, scene, image) -> list[Row]:
    loaded, images = load(), image(128, 128)
    made = scene(loaded, images=images, width=128, height=128, frames=2)
    another = made.model.clone()
    weights = made.model.model.diffusion_model.state_dict()
    changed = {f"diffusion_model.{key}": (0.5 * value,) for key, value in weights.items() if value.ndim > 1}
    another.add_patches(changed, 1.0)
    sockets = {
        "MODEL": made.model,
        "another MODEL": another,
        "VAE": made.vae,
        "IMAGE": images,
        "CONDITIONING": scene(loaded, prompt="a dog", images=images, width=128, height=128, frames=2).positive,
    }
    extras("nodes_latent")
    sockets["LATENT_OPERATION"] = run("LatentOperationTonemapReinhard", multiplier=0.5)[0]
    return list(walk(extras, run, sample, made, sockets))


@pytest.mark.once
@pytest.mark.slow
def test_every_node_changes_the_video_or_says_why_not(rows) -> None:
    silent = [row.node for row in rows if row.outcome == "the same" and not row.said]
    failed = [f"{row.node}: {row.said}" for row in rows if row.outcome == "fails" and row.node not in FAILS_IN_HOST]
    assert not silent
    assert not failed
    assert len(rows) > 50


@pytest.mark.once
@pytest.mark.slow
def test_what_is_said_of_a_node_is_true(rows) -> None:
    outcomes = {row.node: row.outcome for row in rows}
    assert {outcomes[node] for node in SAME.keys() & outcomes.keys()} == {"the same"}
    assert {outcomes[node] for node in FAILS_IN_HOST.keys() & outcomes.keys()} <= {"fails"}


@pytest.mark.once
@pytest.mark.slow
def test_the_table_in_the_documentation_is_what_comes_out(rows) -> None:
    """In the host that the document names; the figures depend on the machine's rounding."""
    import comfyui_version

    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(START)
    written, after = rest.split(END)
    if f"ComfyUI {comfyui_version.__version__}" not in before:
        pytest.skip("the table is of another version of ComfyUI")
    if os.environ.get("WRITE_DOCS"):
        written = table(rows)
        DOCUMENT.write_text(f"{before}{START}{written}{END}{after}", encoding="utf-8")
    documented = dict(re.findall(r"^\| ([^|]+) \| ([a-z ]+) \|", written, re.M))
    assert documented == {"node": "outcome", **{row.node: row.outcome for row in rows}}
