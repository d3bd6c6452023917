"""Analytic-Init files (Zhao et al. 2024): the mean and the variance of the latents a model was trained on."""

import os

from torch import Tensor

from ..errors import InputError
from .reading import open_file


def read_initial_noise(path: str | os.PathLike[str]) -> tuple[Tensor, float]:
    """(expectation [1,4,16,h,w], variance per element), as `analytic_noise` takes them."""
    opened = open_file(path)
    variance = opened.tensors.get("Tr_Cov_d", opened.metadata.get("Tr_Cov_d"))
    if "Expectation_X0" not in opened.tensors or variance is None:
        first = ", ".join(list(opened.tensors)[:2])
        raise InputError(f"{path} holds {first}; an Analytic-Init file holds Expectation_X0 and Tr_Cov_d.")
    return opened.tensors["Expectation_X0"].float().clone(), float(variance)
