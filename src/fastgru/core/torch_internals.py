"""torch's private names, all that fastgru uses of them: where a new torch renames one, it breaks here and nowhere else.

Where an older torch lacks one, down to the oldest that pyproject.toml takes, another way is taken here.

What belongs to `torch.nn.RNNBase`, which `fastgru.nn.GRU` extends, is in RNN_BASE; what the native module calls on a
tensor is in TENSOR: without an exchange table of DLPack it reads tensors through their public methods.
tests/core/test_torch_internals.py has a test for each name.
"""

import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch._C import _after_autograd_keyset as after_autograd
from torch._C import _are_functorch_transforms_active as are_transforms_active
from torch._C import _AutoDispatchBelowAutograd as below_autograd
from torch._C import _current_graph_task_id as backward_pass
from torch._C import _get_tracing_state as tracing_state
from torch._C import _is_any_autocast_enabled as is_any_autocast_enabled
from torch._C import _len_torch_dispatch_stack as count_dispatch_modes
from torch._C import _will_engine_execute_node as will_execute
from torch._C._autograd import SavedTensor
from torch._C._autograd import _profiler_enabled as is_profiled
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    is_batchedtensor,
    is_functorch_wrapped_tensor,
    is_legacy_batchedtensor,
)
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.compiler import is_compiling
from torch.torch_version import TorchVersion

__all__ = [
    "RNN_BASE",
    "TENSOR",
    "TRACED_FROM",
    "FakeTensor",
    "after_autograd",
    "any_requires_grad",
    "are_last_inputs_wanted",
    "are_transforms_active",
    "at_end_of_backward",
    "backward_pass",
    "below_autograd",
    "count_dispatch_modes",
    "direct_apply",
    "has_batched_tangents",
    "is_any_autocast_enabled",
    "is_batchedtensor",
    "is_forward_mode",
    "is_fully_sharded",
    "is_functorch_wrapped_tensor",
    "is_legacy_batchedtensor",
    "is_plain",
    "is_profiled",
    "is_traced",
    "is_vmapped",
    "ragged_dimension",
    "raw_saved_tensors",
    "saved_beside_output",
    "torch_lacks",
    "tracing_state",
    "transforms",
    "will_execute",
]

# The oldest torch whose compiler reads the description of a layer, as far as was tried (docs/install.md).
TRACED_FROM = "2.13"

RNN_BASE = ("_all_weights", "_flat_weight_refs", "_flat_weights_names", "_init_flat_weights", "_update_flat_weights")
TENSOR = ("__dlpack_c_exchange_api__", "_is_zerotensor")


def _is_one_requiring_grad(*tensors: Tensor | None) -> bool:
    """What newer torches have in C++: whether one of them requires a gradient."""
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


any_requires_grad: Callable[..., bool] = getattr(torch._C, "_any_requires_grad", _is_one_requiring_grad)


def torch_lacks() -> str | None:
    """What this torch is too old for, in words; None where nothing."""
    if TorchVersion(torch.__version__) >= TRACED_FROM:
        return None
    return f"before {TRACED_FROM} torch.compile breaks the graph at a layer, and torch.export refuses it"


class _Unseen:
    """A saved tensor of a torch that shows none: as one that a hook holds, which torch itself unpacks and checks."""

    data, unpack_hook = None, True


# What a Function saved, before anything is checked or unpacked: with data (None of None) and unpack_hook.
raw_saved_tensors: Callable[[Any], Sequence[Any]] = (
    attrgetter("_raw_saved_tensors") if hasattr(SavedTensor, "unpack_hook") else lambda ctx: (_Unseen,)
)

# Called once the backward pass that runs now is over; owned by it, and dropped where it fails.
at_end_of_backward = torch.autograd.Variable._execution_engine.queue_callback


def are_last_inputs_wanted(ctx: Any, count: int) -> Sequence[bool]:
    """For each of the last `count` inputs of a Function, tensors all, whether its gradient is used, as far as is known.

    `ctx.needs_input_grad` tells who requires gradients; of those, torch.autograd.grad may have been asked for few.
    """
    try:
        return [node is not None and will_execute(node) for node, _ in ctx.next_functions[-count:]]
    except RuntimeError:  # how torch answers for a leaf that was asked for, and where no backward pass runs
        needs: Sequence[bool] = ctx.needs_input_grad[-count:]
        return needs


def is_forward_mode() -> bool:
    """Whether forward-mode differentiation is on."""
    return forward_ad._current_level >= 0


def is_traced() -> bool:
    """Whether somebody writes down what torch runs: a call of a kernel must then be one operator that he can see."""
    return is_compiling() or tracing_state() is not None or count_dispatch_modes() > 0 or is_profiled()


def is_fully_sharded() -> bool:
    """Whether `torch.distributed.fsdp.fully_shard` was given a module in this process."""
    module = sys.modules.get("torch.distributed.fsdp._fully_shard._fully_shard")
    return module is not None and bool(module.cls_to_fsdp_cls)


def is_plain() -> bool:
    """Whether nobody traces, transforms, casts or differentiates forwards what torch runs."""
    return not (
        is_compiling()
        or tracing_state() is not None
        or count_dispatch_modes() > 0
        or is_profiled()
        or are_transforms_active()
        or is_any_autocast_enabled()
        or forward_ad._current_level >= 0
    )


def transforms() -> Sequence[object]:
    """The levels of torch.func that are active."""
    return get_interpreter_stack() or []


def is_vmapped() -> bool:
    """Whether torch.func.vmap is among them."""
    return any(level.key() == TransformType.Vmap for level in get_interpreter_stack() or [])


def has_batched_tangents(tensors: Sequence[Tensor]) -> bool:
    """Whether forward mode computes for a batch of directions at once, outside of torch.func."""
    if not is_forward_mode():
        return False
    tangents = [forward_ad.unpack_dual(tensor).tangent for tensor in tensors]
    return any(tangent is not None and is_legacy_batchedtensor(tangent) for tangent in tangents)


def ragged_dimension(nested: Tensor) -> int:
    """Which dimension of a jagged nested tensor is ragged."""
    found: int = nested._ragged_idx  # type: ignore[attr-defined]
    return found


def direct_apply(function: type[torch.autograd.Function]) -> object:
    """`function.apply` without what torch does there for torch.func: to be called where no transform is active.

    Of a Function whose forward takes ctx; 5 us less at each call.
    """
    return super(torch.autograd.Function, function).apply  # type: ignore[misc]


def saved_beside_output(ctx: Any, version: int) -> Sequence[Any]:
    """`ctx.saved_tensors`, of which the first is an output: None where it was written to since it had this version.

    Torch would raise then; it goes on doing so for the others, and for all where `raw_saved_tensors` shows none.
    """
    first, *others = raw_saved_tensors(ctx)
    if first.unpack_hook is None and first.data._version != version:
        return None, *(other.unpack() for other in others)
    found: Sequence[Any] = ctx.saved_tensors
    return found
