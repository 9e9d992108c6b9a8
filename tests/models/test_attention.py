"""Attention of our own against PyTorch's, in every form that a network asks for."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from overture.models.attention import attention

B, H, T, D = 2, 4, 7, 8


def tensors(groups: int = H) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, heads, T, D, generator=generator) for heads in (H, groups, groups))
    return q, k, v


@pytest.mark.parametrize("groups", [H, 2])
@pytest.mark.parametrize("form", ["everything", "causal", "keys", "pairs"])
def test_half_precision_is_what_the_exact_kernel_gives(form: str, groups: int) -> None:
    layer: Any = SimpleNamespace(is_causal=form == "causal", num_key_value_groups=H // groups, training=False)
    keys = torch.ones(B, 1, 1, T, dtype=torch.bool)
    keys[1, ..., 5:] = False
    pairs = torch.ones(B, 1, T, T, dtype=torch.bool).tril()
    pairs[0, :, 3:, :3] = False
    mask = {"keys": keys, "pairs": pairs}.get(form)
    q, k, v = tensors(groups)
    full = [x.repeat_interleave(H // groups, 1) for x in (k, v)]
    exact = F.scaled_dot_product_attention(q, *full, attn_mask=mask, is_causal=form == "causal").transpose(1, 2)
    half, _ = attention(layer, q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    torch.testing.assert_close(half.float(), exact, rtol=0.05, atol=0.03)
    whole, _ = attention(layer, q, k, v, mask)
    torch.testing.assert_close(whole, exact, rtol=1e-5, atol=1e-5)


def test_under_autocast_queries_in_full_precision_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotary positions leave them so; the flash kernel for bf16 on a CPU is several times slower than plain products."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("PyTorch's kernel was asked")

    monkeypatch.setattr("overture.models.attention.sdpa_attention_forward", never)
    q, k, v = tensors()
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = attention(SimpleNamespace(is_causal=True), q, k, v.bfloat16(), None)  # type: ignore[arg-type]
    assert out.dtype == torch.bfloat16 and out.shape == (B, T, H, D)
