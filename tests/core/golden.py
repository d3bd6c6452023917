"""Golden values: what the original code computed for weights and inputs filled by one fixed rule.

The rule (`fill`) stands in every golden file under `_fill`: a hash of the flat index and the name's crc32, so that any
implementation can make the same numbers without sharing a file of weights.
"""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

DATA = Path(__file__).parent / "data"


def golden(name: str) -> dict[str, Any]:
    return json.loads((DATA / "golden" / f"{name}.json").read_text())


_TURBO = {  # released as a UNet alone, beside VideoCrafter2's other parts; what it has more than that UNet
    "t2v_turbo_vc2": {"time_cond_proj.weight": (320, 256)},
    "t2v_turbo_v2_mg": {
        "time_cond_proj.weight": (320, 256),
        "motion_cond_proj.weight": (320, 256),
        "combine_proj.weight": (320, 640),
    },
}


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    if name in _TURBO:
        rest = {key: shape for key, shape in manifest("videocrafter2_t2v_512").items() if key != "scale_arr"}
        return rest | {f"model.diffusion_model.{key}": shape for key, shape in _TURBO[name].items()}
    shapes = json.loads((DATA / "manifests" / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in shapes.items()}


def _uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Hashed uniform numbers in [-1, 1), float64."""
    mask = np.uint64(0xFFFFFFFF)
    seed = np.uint64(zlib.crc32(name.encode()) * 0x9E3779B9 & 0xFFFFFFFF)
    h = (np.arange(math.prod(shape), dtype=np.uint64) + seed) & mask
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h ^= h >> np.uint64(shift)
        h = h * np.uint64(factor) & mask
    return (h.astype(np.float64) / 2**31 - 1).reshape(shape)


def golden_input(name: str, shape: list[int] | tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(math.sqrt(3) * _uniform(name, tuple(shape))).float()


def fill(module: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter the value the golden rule assigns to its state-dict key."""
    with torch.no_grad():
        for key, parameter in module.state_dict().items():
            shape = tuple(parameter.shape)
            u = _uniform(key, shape)
            if len(shape) >= 2:
                value = math.sqrt(3) * u / math.sqrt(math.prod(shape) / shape[0])
            elif len(shape) == 1 and key.endswith(".weight"):
                value = 1 + 0.1 * u
            else:
                value = 0.1 * u
            parameter.copy_(torch.from_numpy(np.asarray(value)).float())
    return module.eval()


def assert_golden(actual: torch.Tensor, expected: dict[str, Any], rtol: float = 1e-4) -> None:
    """`actual` has the recorded shape, statistics and samples, each within `rtol` of the tensor's largest value."""
    assert list(actual.shape) == expected["shape"]
    flat = actual.detach().double().flatten()
    bound = rtol * expected["absmax"]
    for index, value in expected["samples"].items():
        assert abs(flat[int(index)].item() - value) <= bound, f"element {index}: {flat[int(index)].item()} != {value}"
    assert abs(flat.mean().item() - expected["mean"]) <= bound
    assert abs(flat.abs().max().item() - expected["absmax"]) <= bound
    if set(expected) == {"shape", "samples", "mean", "absmax", "std"}:  # T2V-Turbo's file, whose std divides by n - 1
        assert abs(flat.std().item() - expected["std"]) <= bound
        return
    assert abs(flat.std(unbiased=False).item() - expected["std_pop"]) <= bound
    assert abs(flat.norm().item() - expected["l2"]) <= rtol * expected["l2"]
