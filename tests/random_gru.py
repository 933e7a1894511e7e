"""A GRU of random sizes and options, those among them that matter in inference."""

import random
from collections.abc import Sequence
from typing import Any

import torch

import fastgru


def random_gru(rng: random.Random, dtypes: Sequence[torch.dtype] = (torch.float32,)) -> fastgru.GRU:
    hidden = rng.choice([1, 5, 8, 16, 33, 64, [7, 5], [8, 16, 3], [4, 4]])
    options: dict[str, Any] = {name: rng.random() < 0.5 for name in ("batch_first", "bidirectional", "bias")}
    options |= rng.choice([{}, {"reset_after": False}, {"layer_norm": True}])
    options |= rng.choice([{}, {"zoneout": 0.3}])
    options |= rng.choice([{}, {"learn_initial_state": True}])
    options["dtype"] = rng.choice(dtypes)
    layers = None if isinstance(hidden, list) else rng.choice([1, 2, 3])
    gru = fastgru.GRU(rng.choice([1, 3, 16, 40]), hidden, layers, **options).eval()
    for name, parameter in gru.named_parameters():
        if name == "initial_state" or name.startswith("gain"):
            torch.nn.init.normal_(parameter)
    return gru
