"""The pack as a guest: what it registers, what it costs to import, what it leaves alone."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).parent / "object_info.json"
OLD_IDS = {
    "DownloadAndLoadDynamiCrafterModel",
    "DynamiCrafterModelLoader",
    "DownloadAndLoadDynamiCrafterCNModel",
    "DynamiCrafterCNLoader",
    "DownloadAndLoadCLIPModel",
    "DownloadAndLoadCLIPVisionModel",
    "DynamiCrafterI2V",
    "DynamiCrafterBatchInterpolation",
    "DynamiCrafterLoadInitNoise",
    "ToonCrafterInterpolation",
    "ToonCrafterDecode",
    "DynamiCrafterControlnetApply",
    "DynamiCrafterLoader",
    "DynamiCrafterProcessor",
    "DynamiCrafterInterpLoader",
    "DynamiCrafter Simple",
    "DynamiCrafterInterp Simple",
}
FILES = {
    ("DynamiCrafterLoad", "checkpoint"),
    ("DynamiCrafterLoadParts", "unet"),
    ("DynamiCrafterLoadParts", "projector"),
    ("DynamiCrafterSampler", "initial_noise"),
    ("DynamiCrafterSketch", "sketch_encoder"),
}


def our_nodes() -> dict:
    import nodes

    return {name: kind for name, kind in nodes.NODE_CLASS_MAPPINGS.items() if kind.__module__.startswith(str(ROOT))}


def object_info() -> dict:
    """Of each node: inputs in order with their type and options, and outputs; files, which differ by machine, left out."""
    info = {}
    for name, kind in our_nodes().items():
        inputs = {}
        for presence, listed in kind.INPUT_TYPES().items():
            if presence == "hidden":
                continue
            for key, (type_, *options) in listed.items():
                figures = {
                    k: v for k, v in (options[0] if options else {}).items() if k in ("default", "min", "max", "step")
                }
                choices = type_ if isinstance(type_, list) else (options[0] if options else {}).get("options")
                if (name, key) in FILES:
                    choices, figures = None, {}
                inputs[key] = {
                    "presence": presence,
                    "type": "COMBO" if isinstance(type_, list) else type_,
                    **({"options": choices} if choices else {}),
                    **figures,
                }
        info[name] = {"inputs": inputs, "outputs": list(kind.RETURN_TYPES), "output_names": list(kind.RETURN_NAMES)}
    return info


def test_the_snapshot_is_up_to_date(pack) -> None:
    """After adding an input: delete the file, run this test, and look at the difference before committing it."""
    text = json.dumps(object_info(), indent=1) + "\n"
    if not SNAPSHOT.exists():
        SNAPSHOT.write_text(text)
    assert SNAPSHOT.read_text() == text


def test_saved_workflows_keep_their_meaning(pack) -> None:
    """The committed snapshot: nodes stay, inputs keep place, type and default, and new ones only come after them."""
    committed, actual = json.loads(SNAPSHOT.read_text()), json.loads(json.dumps(object_info()))
    for name, node in committed.items():
        assert name in actual
        keys = list(node["inputs"])
        assert list(actual[name]["inputs"])[: len(keys)] == keys
        for key, figures in node["inputs"].items():
            now = actual[name]["inputs"][key]
            assert {k: v for k, v in now.items() if k != "options"} == {
                k: v for k, v in figures.items() if k != "options"
            }
            assert set(figures.get("options", [])) <= set(now.get("options", []))
        count = len(node["outputs"])
        assert actual[name]["outputs"][:count] == node["outputs"]


def test_every_node_and_input_explains_itself(pack) -> None:
    for name, kind in our_nodes().items():
        schema = kind.GET_SCHEMA()
        assert schema.description and schema.display_name and schema.search_aliases, name
        assert schema.category.startswith("DynamiCrafter/")
        for port in (*schema.inputs, *schema.outputs):
            assert port.tooltip and port.tooltip.endswith("."), (name, port.id)


def test_names_on_the_page_are_of_one_style(pack) -> None:
    """Inputs in plain words, outputs by their type as the host's own are, or positive and negative."""
    for name, kind in our_nodes().items():
        schema = kind.GET_SCHEMA()
        for port in schema.inputs:
            assert port.display_name and re.fullmatch(r"[a-z]+( [a-z]+)*( \([a-z]+\))?", port.display_name), (
                name,
                port.id,
            )
        for port in schema.outputs:
            assert port.display_name in (port.io_type, "positive", "negative"), (name, port.id)


def test_no_id_is_another_packs(pack) -> None:
    assert our_nodes() and not OLD_IDS & set(our_nodes())


def test_ids_are_literal_for_scanners_that_do_not_run_code(pack) -> None:
    found = set()
    for path in (ROOT / "nodes").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "io.ComfyNode" for base in node.bases):
                values = [
                    k.value for c in ast.walk(node) if isinstance(c, ast.Call) for k in c.keywords if k.arg == "node_id"
                ]
                assert len(values) == 1 and isinstance(values[0], ast.Constant)
                found.add(values[0].value)
    assert found == set(our_nodes())


def test_only_the_host_folder_knows_the_hosts_own_code() -> None:
    allowed = {"comfy_api.latest"}
    for path in [ROOT / "__init__.py", *(ROOT / "nodes").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            wrong = {
                name for name in names if name.split(".")[0].startswith(("comfy", "nodes", "folder_paths", "server"))
            }
            assert wrong <= allowed, path


def test_nodes_leave_memory_to_the_host() -> None:
    """No model is moved by hand, no cache emptied, no list of the host's touched, nothing printed or downloaded."""
    for path in (ROOT / "nodes").rglob("*.py"):
        text = path.read_text()
        for word in (
            "empty_cache",
            "current_loaded_models",
            "unload_all_models",
            "print(",
            "urllib",
            "requests",
            "subprocess",
        ):
            assert word not in text, (path, word)


@pytest.mark.slow
def test_importing_costs_little_prints_nothing_and_needs_neither_open_clip_nor_kornia(host_path, tmp_path) -> None:
    code = f"""
import asyncio, contextlib, io, sys, time
sys.path.insert(0, {str(host_path)!r})
sys.modules["open_clip"] = sys.modules["kornia"] = None
from comfy.cli_args import args
args.cpu, args.base_directory = True, {str(tmp_path)!r}
import utils.extra_config, nodes, latent_preview
from server import PromptServer
loop = asyncio.new_event_loop()
PromptServer(loop)
import comfy_api.latest
out = io.StringIO()
began = time.process_time()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    assert loop.run_until_complete(nodes.load_custom_node({str(ROOT)!r}))
took = time.process_time() - began
assert "DynamiCrafterLoad" in nodes.NODE_CLASS_MAPPINGS
assert not out.getvalue(), out.getvalue()
assert took < 1, took
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_broken_module_of_ours_leaves_the_host_running(server, pack, monkeypatch, caplog) -> None:
    import nodes

    name = f"{pack.__name__}.nodes.extension"
    before = set(nodes.NODE_CLASS_MAPPINGS)
    monkeypatch.setitem(sys.modules, name, None)
    assert server.loop.run_until_complete(nodes.load_custom_node(str(ROOT))) is False
    monkeypatch.undo()
    assert set(nodes.NODE_CLASS_MAPPINGS) == before
    assert server.loop.run_until_complete(nodes.load_custom_node(str(ROOT)))
    assert any("comfy_entrypoint" in record.message for record in caplog.records)


OLD_WORKFLOW = {
    "1": {
        "class_type": "DynamiCrafterModelLoader",
        "inputs": {"ckpt_name": "x.ckpt", "dtype": "auto", "fp8_unet": False},
    },
    "2": {
        "class_type": "DynamiCrafterI2V",
        "inputs": {
            "model": ["1", 0],
            "clip_vision": ["8", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "image": ["5", 0],
            "steps": 30,
            "cfg": 6.0,
            "eta": 0.5,
            "frames": 16,
            "seed": 7,
            "fs": 10,
            "keep_model_loaded": True,
            "vae_dtype": "auto",
        },
    },
    "3": {
        "class_type": "DynamiCrafterProcessor",
        "inputs": {
            "model": ["4", 0],
            "clip_vision": ["8", 0],
            "vae": ["9", 0],
            "image_proj_model": ["4", 1],
            "images": ["5", 0],
            "use_interpolate": False,
            "fps": 15,
            "frames": 16,
            "scale_latents": False,
        },
    },
    "4": {"class_type": "DynamiCrafterLoader", "inputs": {"model_path": "unet.safetensors"}},
    "10": {"class_type": "KSampler", "inputs": {"model": ["4", 0], "latent_image": ["3", 1]}},
    "11": {
        "class_type": "DynamiCrafter Simple",
        "inputs": {
            "model": ["4", 0],
            "image": ["5", 0],
            "prompt": "a",
            "steps": 50,
            "cfg_scale": 7.5,
            "eta": 1.0,
            "motion": 3,
            "seed": 1,
        },
    },
}


def test_workflows_of_older_packs_are_offered_our_nodes(server, pack) -> None:
    prompt = json.loads(json.dumps(OLD_WORKFLOW))
    for node in prompt.values():
        node["_meta"] = {"title": "old"}
    server.node_replace_manager.apply_replacements(prompt)
    assert prompt["1"]["class_type"] == "DynamiCrafterLoad"
    assert prompt["1"]["inputs"] == {"checkpoint": "x.ckpt", "variant": "auto", "weight_dtype": "default"}
    sampler = prompt["2"]["inputs"]
    assert prompt["2"]["class_type"] == "DynamiCrafterSampler"
    assert (sampler["seed"], sampler["steps"], sampler["cfg_text"], sampler["cfg_image"], sampler["eta"]) == (
        7,
        30,
        6.0,
        6.0,
        0.5,
    )
    assert prompt["3"]["class_type"] == "DynamiCrafterVisualGuidance" and prompt["3"]["inputs"]["fs"] == 15
    assert prompt["10"]["inputs"]["latent_image"] == ["3", 2]
    assert prompt["4"]["inputs"]["unet"] == "unet.safetensors"
    assert prompt["11"]["class_type"] == "DynamiCrafterSampler"


def test_every_replacement_maps_onto_inputs_that_exist(server, pack) -> None:
    info = object_info()
    offered = server.node_replace_manager.as_dict()
    ours = [entry for old in OLD_IDS & set(offered) for entry in offered[old]]
    assert len(ours) >= 9
    for entry in ours:
        node = info[entry["new_node_id"]]
        assert {mapping["new_id"] for mapping in entry["input_mapping"]} <= set(node["inputs"])
        assert all(mapping["new_idx"] < len(node["outputs"]) for mapping in entry["output_mapping"] or [])
