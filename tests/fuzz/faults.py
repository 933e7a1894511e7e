"""What can be wrong with an operator's argument: functions from a valid value to a wrong one."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from fuzz.views import CHANGING, KEEPING

Fault = Callable[[Random, Any], Any]
_HUGE = 2**40  # of something: no machine has the memory


def _dim(rng: Random, t: Tensor) -> int:
    return rng.randrange(t.dim())


def _shorter(rng: Random, t: Tensor) -> Tensor:
    d = _dim(rng, t)
    return t.narrow(d, 0, max(t.size(d) - rng.choice((1, 1, 1000)), 0)).contiguous()


def _longer(rng: Random, t: Tensor) -> Tensor:
    d = _dim(rng, t)
    more = t.narrow(d, 0, min(t.size(d), 1))
    return torch.cat([t, *[more] * rng.choice((1, 1, 7, 300))], d)


def _expanded(most: int) -> Fault:
    def fault(rng: Random, t: Tensor) -> Tensor:
        d = _dim(rng, t)
        return t.narrow(d, 0, 1).expand(*t.shape[:d], most, *t.shape[d + 1 :])

    return fault


def _freed(rng: Random, t: Tensor) -> Tensor:
    t = t.clone()
    t.untyped_storage().resize_(rng.choice((0, 0, t.untyped_storage().nbytes() // 2)))
    return t


def _dtype(rng: Random, t: Tensor) -> Tensor:
    others = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    others += (torch.uint8, torch.bool, torch.complex64)
    return t.to(rng.choice([dtype for dtype in others if dtype is not t.dtype]))


def _conjugated(rng: Random, t: Tensor) -> Tensor:
    return t.to(torch.complex128 if t.dtype is torch.float64 else torch.complex64).conj()


def _sparse(rng: Random, t: Tensor) -> Tensor:
    kinds = [Tensor.to_sparse, Tensor.to_mkldnn] + ([Tensor.to_sparse_csr] if t.dim() == 2 else [])
    return rng.choice(kinds)(t)


def _turned(rng: Random, t: Tensor) -> Tensor:
    dims = [*range(t.dim())]
    rng.shuffle(dims)
    return t.permute(dims)


def _whole(values: Sequence[int | float]) -> Fault:
    """One element, or all, of a vector of integers become another; so does one of flags, whatever its bytes are."""

    def fault(rng: Random, t: Tensor) -> Tensor:
        t = t.clone(memory_format=torch.contiguous_format)
        if t.numel() == 0:
            return t
        value = rng.choice(values)
        flat = t.view(torch.uint8 if t.dtype is torch.bool else t.dtype).view(-1)
        limits = torch.iinfo(flat.dtype)
        if rng.random() < 0.7:
            flat[rng.randrange(flat.numel())] = min(max(value, limits.min), limits.max)
        else:
            flat.fill_(min(max(value, limits.min), limits.max))
        return t

    return fault


def _shuffled(rng: Random, t: Tensor) -> Tensor:
    order = [*range(t.size(0))]
    rng.shuffle(order)
    return t[order]


def _kept(rng: Random, t: Tensor) -> Tensor:
    return KEEPING[rng.choice([*KEEPING])](t)


def _changed(rng: Random, t: Tensor) -> Tensor:
    return CHANGING[rng.choice([*CHANGING])](t)


_SAME = {"another layout": _kept}  # the same numbers
_SHAPE: dict[str, Fault] = {
    "missing": lambda rng, t: None,
    "shorter": _shorter,
    "longer": _longer,
    "expanded": _expanded(500),
    "expanded to more than there is memory": _expanded(_HUGE),
    "no elements": lambda rng, t: t.narrow(_dim(rng, t), 0, 0),
    "a dimension less": lambda rng, t: t[0],
    "a dimension more": lambda rng, t: t.unsqueeze(rng.randrange(t.dim() + 1)),
    "no dimensions": lambda rng, t: t.flatten()[0],
    "no shape": lambda rng, t: t.new_empty(0),
    "turned": _turned,
    "flat": lambda rng, t: t.flatten(),
}
_STRANGE: dict[str, Fault] = {
    "another dtype": _dtype,
    "on meta": lambda rng, t: t.to("meta"),
    "not strided": _sparse,
    "freed": _freed,
    "conjugated": _conjugated,
    "zeros without memory": lambda rng, t: torch._efficientzerotensor(t.shape, dtype=t.dtype),
    "all the same": _changed,
}
_INTEGERS: dict[str, Fault] = {
    "another number": _whole((-1, 0, 1, 2, 41, 1000, 2**31 - 1, 2**31, 2**62, -(2**63), 2**63 - 1)),
    "shuffled": _shuffled,
}
FAULTS: dict[str, dict[str, Fault]] = {
    "tensor": {**_SAME, **_SHAPE, **_STRANGE},
    "integers": {**_SAME, **_SHAPE, **_STRANGE, **_INTEGERS},
    "flags": {**_SAME, **_SHAPE, **_STRANGE, "bytes": _whole((2, 0x7F, 0x80, 0x81, 0xFF))},
    "list": {
        "one less": lambda rng, ts: ts[:-1],
        "one more": lambda rng, ts: [*ts, ts[-1]],
        "two swapped": lambda rng, ts: [ts[1], ts[0], *ts[2:]],
        "the first for all": lambda rng, ts: [ts[0]] * len(ts),
        "none": lambda rng, ts: [],
        "the first two": lambda rng, ts: ts[:2],
    },
    "wanted": {
        "one less": lambda rng, flags: flags[:-1],
        "one more": lambda rng, flags: [*flags, True],
        "none": lambda rng, flags: [],
        "all false": lambda rng, flags: [False] * len(flags),
        "all true": lambda rng, flags: [True] * len(flags),
    },
    "flag": {"the other": lambda rng, flag: not flag},
    "name": {
        "unknown": lambda rng, name: "no such name",
        "empty": lambda rng, name: "",
        "another": lambda rng, name: rng.choice(("aten", "reference", "recompute", "checkpoint", "gates", "auto")),
    },
    "number": {
        "another": lambda rng, n: rng.choice((-1, 0, 1, 2, 7, 2**31, 2**40, 2**62, -(2**62), 2**63 - 1, -(2**63))),
        "one more": lambda rng, n: n + 1,
    },
    "keep": {"another": lambda rng, keep: rng.choice((float("nan"), -1.0, 0.0, 2.0))},
}
KIND_OF = {
    **dict.fromkeys(("lengths", "offsets", "batch_sizes"), "integers"),
    **dict.fromkeys(("bias", "bidirectional", "reset_after", "layer_norm", "reverse", "bf16", "save"), "flag"),
    **dict.fromkeys(("kernel", "memory"), "name"),
    **dict.fromkeys(("tbptt", "batch"), "number"),
    "resets": "flags",
    "weights": "list",
    "wanted": "wanted",
    "keep": "keep",
}
