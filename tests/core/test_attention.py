"""Attention of more rows than a fused kernel of CUDA takes."""

import pytest
import torch

from dynamicrafter_core.models import attention


@pytest.mark.parametrize("masked", [False, True])
def test_rows_beyond_the_kernels_limit_come_in_portions(monkeypatch, masked):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(11, 6, 16, generator=draw) for _ in range(3))
    mask = torch.ones(6, 6, dtype=torch.bool).tril() if masked else None
    whole = attention.attend(q, k, v, 2, mask)
    taken = []
    fused = attention.F.scaled_dot_product_attention
    monkeypatch.setattr(
        attention.F,
        "scaled_dot_product_attention",
        lambda q, *given, **named: taken.append(len(q)) or fused(q, *given, **named),
    )
    monkeypatch.setattr(attention, "MOST_ROWS", 4)
    assert torch.equal(attention.attend(q, k, v, 2, mask), whole)
    assert taken == [4, 4, 3]
