"""A case of layers: fastgru's layer and the definition in float64, on the very same numbers.

Bounds, as relative L2 errors of outputs and of gradients: tests/backends/test_cpu_numerics.py's for float32 and float64
(1e-6 and 3e-6, 1e-14 and 1e-13), and 2 and 4 eps for half precision; for each layer of a stack anew. As there, what is
near zero because its terms cancelled is held to a tenth of a typical state or of the largest gradient, and below 8
units the bounds grow with 8/H. Some layers amplify more (layer norm of few units, large weights): what is beyond a
bound is allowed up to 8 times what the definition makes of a change of all its numbers by eps, the worst of 4 changes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fastgru import _native
from fastgru.ops import memory
from fuzz.layer_case import LayerCase
from fuzz.trial import Found, Leaves, Trial

HALF = (torch.bfloat16, torch.float16)
BOUNDS = {torch.float32: (1e-6, 3e-6), torch.float64: (1e-14, 1e-13)}
BOUNDS |= {dtype: (2 * torch.finfo(dtype).eps, 4 * torch.finfo(dtype).eps) for dtype in HALF}
_AMPLIFIED = 8
_CHANGES = 4


def check(case: LayerCase) -> list[str]:
    """What is wrong, in words."""
    problems: list[str] = []
    with _settings(case):
        trial = Trial(case)
        for number, edit in enumerate(case.calls):
            trial.edit(edit)
            before = {name: tensor.detach().clone() for name, tensor in trial.leaves().items()}
            got = trial.ours(number)
            for name, tensor in trial.leaves().items():
                if not torch.equal(tensor.detach().nan_to_num(), before[name].nan_to_num()):
                    problems.append(f"call {number + 1} wrote to {name}")
            wrong = [*_compare(case, trial, number, got), *trial.problems]
            problems += [f"call {number + 1}: {words}" for words in wrong]
            trial.problems.clear()
    return problems


@contextmanager
def _settings(case: LayerCase) -> Iterator[None]:
    threads, rows = torch.get_num_threads(), dict(memory._ROWS)
    _native.force_instruction_set(case.isa)
    torch.set_num_threads(case.threads)
    memory._ROWS.update(dict.fromkeys(rows, case.rows))
    try:
        yield
    finally:
        memory._ROWS.update(rows)
        torch.set_num_threads(threads)
        _native.force_instruction_set("")


def _compare(case: LayerCase, trial: Trial, number: int, got: Found) -> Iterator[str]:
    exact = trial.exact(number, trial.numbers())
    if got.keys() != exact.keys():
        yield f"gave {[*got]}, not {[*exact]}"
        return
    amplified: dict[str, float] | None = None
    scales = _scales(exact)
    for name, want in exact.items():
        if got[name].shape != want.shape:
            yield f"{name} is {[*got[name].shape]}, not {[*want.shape]}"
            continue
        if got[name].dtype != (wanted := trial.dtype_of(name)):
            yield f"{name} is {got[name].dtype}, not {wanted}"
        error = (got[name].double() - want).norm().item() / scales[name]
        bound = _bound(case, trial.precision, name)
        if error <= bound:
            continue
        if amplified is None:
            amplified = _amplified(trial, number, exact, scales)
        if not error <= _AMPLIFIED * amplified[name]:
            yield (
                f"{name} {[*want.shape]}: relative error {error:.2e}, bound {bound:.2e}, "
                f"and a change by eps makes {amplified[name]:.2e}{_where(got[name], want)}"
            )


def _bound(case: LayerCase, dtype: torch.dtype, name: str) -> float:
    bound = BOUNDS[dtype][0 if name.startswith(("y", "h_n")) else 1]
    sizes = (case.H,) if isinstance(case.H, int) else case.H
    if case.entry == "step" and dtype in HALF:  # each step rounds the state
        bound *= 4
    return bound * int(case.options.get("num_layers", 1)) * max(1, 8 / min(sizes))


def _scales(exact: Found) -> dict[str, float]:
    """What the errors are relative to."""
    outputs = {name: want for name, want in exact.items() if name.startswith(("y", "h_n"))}
    gradients = [want.norm().item() for name, want in exact.items() if name not in outputs]
    largest = max([*gradients, sum(want.numel() for want in outputs.values()) ** 0.5])
    typical = {name: want.numel() ** 0.5 if name in outputs else largest for name, want in exact.items()}
    return {name: max(want.norm().item(), typical[name] / 10) or 1.0 for name, want in exact.items()}


def _amplified(trial: Trial, number: int, exact: Found, scales: dict[str, float]) -> dict[str, float]:
    """What a relative change of all numbers by eps makes, at worst of some."""
    generator = torch.Generator().manual_seed(1)
    eps = torch.finfo(trial.precision).eps

    def moved(tensor: Tensor) -> Tensor:
        return tensor * (1 + eps * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))

    worst = dict.fromkeys(exact, 0.0)
    for _ in range(_CHANGES):
        leaves: Leaves = {name: moved(tensor) for name, tensor in trial.numbers().items()}
        changed = trial.exact(number, leaves)
        for name, want in exact.items():
            worst[name] = max(worst[name], (changed[name] - want).norm().item() / scales[name])
    return worst


def _where(got: Tensor, want: Tensor) -> str:
    """Where the largest of the differences are, if they are few."""
    off = (got.double() - want).abs()
    off = torch.where(off.isnan(), torch.inf, off)
    wrong = (off > 0.1 * off.max()).nonzero()
    places = ", ".join(f"{place}" for place in wrong[:4].tolist())
    return f"; {len(wrong)} of {off.numel()} differ by up to {off.max():.2e}, as at {places}"
