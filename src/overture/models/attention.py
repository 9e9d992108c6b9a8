"""Scaled dot-product attention for networks of transformers' layers, as `attn_implementation="overture"`.

PyTorch's own kernel, but for bf16 on a CPU, where plain batched products are faster than its flash kernel and take most of an
update otherwise (benchmarks/tera_step.py). An exported folder of a network of ours carries a copy of this file.
"""

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """(B, H, T, D/H) three times, mask (B, 1, T or 1, T) bool, true where a key may be read -> (B, T, H, D/H).

    Without a mask everything may be read, and in a layer that says `is_causal` what came before. Keys and values may have fewer heads
    than queries, which then share them in order.
    """
    if torch.is_autocast_enabled(query.device.type):  # rotary positions leave queries and keys in fp32
        query, key, value = (x.to(torch.get_autocast_dtype(query.device.type)) for x in (query, key, value))
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return out, None
    b, h, t, d = query.shape
    if (shared := h // key.shape[1]) > 1:
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    if attention_mask is None and getattr(module, "is_causal", False) and t > 1:
        attention_mask = torch.ones(t, key.shape[2], dtype=torch.bool).tril()[None, None]
    bias = query.new_zeros(()).expand(b * h, 1, key.shape[2])
    if attention_mask is not None:
        bias = query.new_zeros(attention_mask.shape).masked_fill(~attention_mask, -torch.inf)  # (B or 1, 1, T or 1, T)
        bias = bias.expand(b, h, -1, -1).flatten(0, 1)
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=d**-0.5 if scaling is None else scaling)  # (B H, T, T)
    weights = nn.functional.dropout(torch.softmax(scores, -1), dropout)  # `dropout` is 0 outside training
    return (weights.to(v.dtype) @ v).view(b, h, t, d).transpose(1, 2), None


AttentionInterface.register("overture", attention)
AttentionMaskInterface.register("overture", sdpa_mask)
