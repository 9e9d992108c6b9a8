"""How much of a codebook is in use. A collapsed codebook looks like success (loss 0, accuracy 1), so these are always on."""

import torch
from torch import Tensor


@torch.no_grad()
def usage(ids: Tensor, entries: int) -> dict[str, Tensor]:
    """(N, G) ids of `entries` codes a group -> () float32 each, means over the groups:

    `codes_used`, the share of the entries that occur; `code_perplexity`, the exponential of the entropy, from 1 (all frames have one
    code) to `entries`; `top_code`, the share of frames that have the most frequent code. Raises ValueError for no ids.
    """
    if ids.ndim != 2 or len(ids) == 0:
        raise ValueError(f"ids must be (N, G) with N > 0, not {tuple(ids.shape)}")
    groups = ids.shape[1]
    flat = ids + entries * torch.arange(groups, device=ids.device)  # (N, G), another range for each group
    counts = torch.bincount(flat.flatten(), minlength=groups * entries).view(groups, entries)
    share = counts.float() / len(ids)  # (G, V)
    return {
        "codes_used": (counts > 0).float().mean(),
        "code_perplexity": torch.exp(-torch.xlogy(share, share).sum(1)).mean(),
        "top_code": share.amax(1).mean(),
    }
