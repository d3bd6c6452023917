"""What a checkpoint file is, as plain data for people and programs: `dynamicrafter inspect FILE` prints it."""

import os
from collections import Counter
from math import prod
from typing import Any

from ..errors import InputError
from ..families import find_family
from ..part_names import split_names
from .checkpoint import load_checkpoint
from .reading import Opened, open_file


def describe(path: str | os.PathLike[str], variant: str = "auto") -> dict[str, Any]:
    """Family and evidence, parts with their sizes, metadata; a file that does not load says why under "problem"."""
    opened = open_file(path)
    naming = split_names(opened.shapes)
    described: dict[str, Any] = {
        "path": str(opened.path),
        "container": opened.container,
        "bytes": opened.path.stat().st_size,
        "tensors": len(opened.shapes),
        "parts": {part: _sizes(opened, list(names.values())) for part, names in naming.parts.items()},
        "schedule": sorted(naming.buffers),
        "metadata": dict(opened.metadata),
        "family": None,
        "title": None,
        "published": None,
        "candidates": [],
        "evidence": [],
        "ambiguous": False,
        "problem": None,
    }
    try:
        checkpoint = load_checkpoint(path, variant)
    except InputError as error:
        return {**described, "problem": str(error)}
    detection, family = checkpoint.detection, find_family(checkpoint.detection.name)
    return {
        **described,
        "family": family.name,
        "title": family.title,
        "published": family.published,
        "candidates": list(detection.candidates),
        "evidence": list(detection.evidence),
        "ambiguous": detection.ambiguous,
    }


def _sizes(opened: Opened, keys: list[str]) -> dict[str, Any]:
    elements = {key: prod(opened.shapes[key]) for key in keys}
    dtypes = Counter(str(opened.dtypes[key]).removeprefix("torch.") for key in keys)
    return {
        "tensors": len(keys),
        "parameters": sum(elements.values()),
        "bytes": sum(count * opened.dtypes[key].itemsize for key, count in elements.items()),
        "dtypes": dict(dtypes.most_common()),
    }
