"""overture.quantize.meters: what is measured of a codebook."""

import pytest
import torch

from overture.quantize.meters import usage


def test_all_codes_equally_often() -> None:
    ids = torch.arange(32)[:, None].expand(32, 2)
    found = usage(ids, 32)
    assert {n: float(v) for n, v in found.items()} == pytest.approx(
        {"codes_used": 1.0, "code_perplexity": 32.0, "top_code": 1 / 32}
    )
    assert all(v.shape == () and not v.requires_grad for v in found.values())


def test_one_code_for_all() -> None:
    found = usage(torch.full((100, 1), 5), 32)
    assert {n: float(v) for n, v in found.items()} == {"codes_used": 1 / 32, "code_perplexity": 1.0, "top_code": 1.0}


def test_groups_are_counted_apart_and_averaged() -> None:
    ids = torch.stack([torch.arange(8) % 4, torch.zeros(8, dtype=torch.int64)], dim=1)  # four codes, and one
    found = {n: float(v) for n, v in usage(ids, 4).items()}
    assert found == pytest.approx({"codes_used": (1 + 0.25) / 2, "code_perplexity": 2.5, "top_code": (0.25 + 1) / 2})


def test_nothing_to_measure_is_an_error() -> None:
    for ids in (torch.zeros(0, 2, dtype=torch.int64), torch.zeros(5, dtype=torch.int64)):
        with pytest.raises(ValueError, match="must be"):
            usage(ids, 4)
