"""Token ids as padded tensors."""

import torch
from torch import Tensor

from fastgru.inference import batches


def pad_ids(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Pad token ids to `ids [B, T] int64` and give their `lengths [B] int64`."""
    ids, lengths = batches.pad_ids(rows)
    return torch.from_numpy(ids), torch.from_numpy(lengths)
