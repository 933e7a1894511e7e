"""Counters of FLOPs that go by a module's exact class: to them our modules are torch.nn's of the same name.

torch's own FlopCounterMode counts our operators (library.py). These have a table, from a class to the forward hook that
counts it, and whatever class is not there counts 0, without a word.
"""

import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

# Where their tables are. All of them go through a model by `Module.apply`, before they run it.
TABLES = {
    "calflops.pytorch_ops": "MODULE_HOOK_MAPPING",
    "deepspeed.profiling.flops_profiler.profiler": "MODULE_HOOK_MAPPING",
    "ptflops.pytorch_ops": "MODULES_MAPPING",
    "thop.profile": "register_hooks",
}

_Hook = Callable[[Any, Any, Any], object]


def enter_tables(kind: type, theirs: type[torch.nn.Module]) -> None:
    """Give a class the hook of torch's in every table that is imported, has that, and does not have this class."""
    for module, name in TABLES.items():
        table = getattr(sys.modules.get(module), name, {})
        if theirs in table and kind not in table:
            table[kind] = _counting_as_torch(table[theirs])


def _counting_as_torch(count: _Hook) -> _Hook:
    """A hook for a module of ours that has torch's look at torch's module, and keeps what it writes there."""

    @wraps(count)
    def hook(module: Any, inputs: tuple[Any, ...], outputs: Any) -> None:
        if isinstance(module.hidden_size, tuple):
            kind = type(module).__name__
            warnings.warn(
                f"{count.__module__} cannot count a {kind} with hidden_size={module.hidden_size}", stacklevel=2
            )
            return
        standing_in = module.as_torch()
        count(standing_in, (_batch(module, inputs[0]), *inputs[1:]), outputs)
        vars(module).update(vars(standing_in))  # counts in plain attributes; a buffer is one and the same in both

    return hook


def _batch(module: Any, x: Any) -> Any:
    """The steps of rows that stand one after the other as a batch of one sequence; anything else as it is."""
    if not isinstance(module, torch.nn.RNNBase) or not isinstance(x, Tensor):
        return x
    rows = x.values() if x.is_nested else x
    return rows.unsqueeze(0 if module.batch_first else 1) if rows.dim() == 2 else rows
