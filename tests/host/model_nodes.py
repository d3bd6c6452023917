"""Every node of the host that turns a MODEL into a MODEL, run on ours, and what becomes of the video.

`walk` gives a row for each node. A node that appears in a later host is walked too: with its defaults, unless it is named here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

STRONG: dict[str, dict[str, Any]] = {
    "APG": {"eta": 0.0, "norm_threshold": 1.0, "momentum": -0.5},
    "CFGNorm": {"strength": 0.5},
    "ChromaRadianceOptions": {"nerf_tile_size": 64},
    "CFGOverride": {"cfg": 1.0},
    "EasyCache": {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0},
    "Epsilon Scaling": {"scaling_factor": 1.2},
    "FreSca": {"scale_low": 0.5, "scale_high": 3.0, "freq_cutoff": 2},
    "HyperTile": {"tile_size": 32, "max_depth": 1},
    "LazyCache": {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0},
    "ModelNoiseScale": {"noise_scale": 2.0},
    "NAGuidance": {"nag_scale": 8.0, "nag_alpha": 1.0, "nag_tau": 5.0},
    "PatchModelAddDownscale": {"end_percent": 1.0},
    "RenormCFG": {"cfg_trunc": 100.0, "renorm_cfg": 0.5},
    "ScaleROPE": {"scale_x": 2.0, "shift_x": 8.0},
    "SelfAttentionGuidance": {"scale": 2.0},
    "SkipLayerGuidanceDiT": {"start_percent": 0.0, "end_percent": 1.0},
    "SkipLayerGuidanceSD3": {"start_percent": 0.0, "end_percent": 1.0},
    "TomePatchModel": {"ratio": 0.6},
    "UNetCrossAttentionMultiply": {"v": 2.0},
    "UNetSelfAttentionMultiply": {"v": 2.0},
    "UNetTemporalAttentionMultiply": {"self_structural": 2.0, "self_temporal": 2.0},
}

# Sockets that only a file or a node can fill which this model has not, and what has a test of its own.
UNFILLED = ("MODEL_PATCH", "AUDIO", "LORA_MODEL")
NOT_TRIED = {
    "HypernetworkLoader": "needs a file",
    "LoraLoader": "needs a file: tested in test_native.py",
    "LoraLoaderBypass": "needs a file",
    "LoraLoaderBypassModelOnly": "needs a file",
    "LoraLoaderModelOnly": "needs a file: tested in test_native.py",
    "TorchCompileModel": "takes minutes: tested in test_native.py",
}

# Nodes that change nothing, and why that is right.
SAME = {
    "ChromaRadianceOptions": "for Chroma Radiance; refused at the first step below its start_sigma, if any",
    "ContextWindowsManual": "the clip is one window; longer ones: test_native.py",
    "DifferentialDiffusion": "there is no mask",
    "LTXVContextWindows": "the clip is one window",
    "ModelComputeDtype": "already this type",
    "MultiGPU_WorkUnits": "one device",
    "SelectModelDevice": "already on this device",
    "WanContextWindowsManual": "the clip is one window",
    "wanBlockSwap": "has no effect on any model",
}
MERGES_BY_NAME = "merges weights by another model's names, of which this one has none"

# Nodes that fail in the host's own code, with any model of Stable Diffusion's kind too.
FAILS_IN_HOST = {
    "HiDreamO1PatchSeamSmoothing": "reads a flow model's multiplier",
    "ModelNoiseScale": "reads a flow model's shift",
    "TripoSplatSamplingPreview": "reads its own model's tokens",
}


@dataclass(frozen=True)
class Row:
    node: str
    outcome: str  # "changes", "the same", "refused", "fails" or "not tried"
    figure: float = 0.0  # mean absolute change of the latent, as a share of the latent's own
    said: str = ""


def model_nodes(extras: Callable[[str], None]) -> Iterator[tuple[str, Any, dict[str, tuple]]]:
    import nodes

    for path in sorted(Path(nodes.__file__).parent.glob("comfy_extras/nodes_*.py")):
        extras(path.stem)
    for node, kind in sorted(nodes.NODE_CLASS_MAPPINGS.items()):
        needed = kind.INPUT_TYPES().get("required", {})
        takes = any(socket[0] == "MODEL" for socket in needed.values())
        if takes and "MODEL" in kind.RETURN_TYPES and not node.startswith("DynamiCrafter"):
            yield node, kind, needed


def filled(node: str, needed: dict[str, tuple], made: SimpleNamespace, sockets: dict[str, Any]) -> dict[str, Any]:
    """Our own objects for its sockets, and for its widgets the settings above, or their defaults."""
    inputs = {}
    for name, (kind, *options) in needed.items():
        given = options[0] if options else {}
        if name == "model2":
            inputs[name] = sockets["another MODEL"]
        elif node.startswith("ModelMerge") and kind == "FLOAT":
            inputs[name] = 0.5
        elif name in STRONG.get(node, {}):
            inputs[name] = STRONG[node][name]
        elif isinstance(kind, str) and kind in sockets:
            inputs[name] = sockets[kind]
        elif isinstance(kind, list) or kind == "COMBO":
            choices = kind if isinstance(kind, list) else given["options"]
            inputs[name] = given.get("default", choices[0] if choices else None)
        else:
            inputs[name] = given.get("default")
    return inputs


def walk(
    extras: Callable, run: Callable, sample: Callable, made: SimpleNamespace, sockets: dict[str, Any]
) -> Iterator[Row]:
    def clip(model: Any = None) -> torch.Tensor:
        torch.manual_seed(0)  # token merging draws from the global state
        return sample(made, "KSampler", model=model, steps=3)

    plain = clip()
    for node, kind, needed in model_nodes(extras):
        unfilled = [f"needs an input of type {socket[0]}" for socket in needed.values() if socket[0] in UNFILLED]
        if node in NOT_TRIED or unfilled:
            yield Row(node, "not tried", said=NOT_TRIED.get(node) or unfilled[0])
            continue
        try:
            outputs = run(node, **filled(node, needed, made, sockets))
            out = clip(outputs[kind.RETURN_TYPES.index("MODEL")])
        except Exception as error:
            refused = type(error).__name__ == "InputError"
            why = str(error) if refused else FAILS_IN_HOST.get(node, f"{type(error).__name__}: {error}")
            yield Row(node, "refused" if refused else "fails", said=why)
            continue
        change = ((out - plain).abs().mean() / plain.abs().mean()).item()
        if change > 1e-3:
            yield Row(node, "changes", change)
        else:
            by_name = node.startswith("ModelMerge") and any(name.endswith(".") for name in needed)
            yield Row(node, "the same", said=SAME.get(node, MERGES_BY_NAME if by_name else ""))


def table(rows: list[Row]) -> str:
    """As Markdown, for docs/model_nodes.md."""
    lines = ["| node | outcome | change | why |", "|---|---|---|---|"]
    for row in rows:
        figure = f"{row.figure:.2f}" if row.outcome == "changes" else ""
        lines.append(f"| {row.node} | {row.outcome} | {figure} | {row.said} |")
    return "\n".join(lines) + "\n"
