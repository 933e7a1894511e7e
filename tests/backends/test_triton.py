"""The Triton kernels in Triton's interpreter, beside the definition: every option and every form of the input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastgru

pytestmark = pytest.mark.usefixtures("triton_interpreter")

T, B, I, H = 5, 3, 3, 5
BOUND = 2e-6  # of the largest number of a tensor; measured: 6e-7


def padded(x: Tensor) -> dict[str, Any]:
    return {"input": x}


def with_lengths(x: Tensor) -> dict[str, Any]:
    return {"input": x, "lengths": torch.tensor([3, 0, 5])}


def with_lengths_and_resets(x: Tensor) -> dict[str, Any]:
    return {"input": x, "lengths": torch.tensor([4, 5, 2]), "resets": torch.rand(T, B) < 0.4}


def with_resets(x: Tensor) -> dict[str, Any]:
    return {"input": x, "resets": torch.rand(T, B) < 0.4}


def packed(x: Tensor) -> dict[str, Any]:
    return {"input": pack_padded_sequence(x, torch.tensor([2, 5, 3]), enforce_sorted=False)}


def concatenated(x: Tensor) -> dict[str, Any]:
    rows = x.flatten(0, 1)[:9]
    return {"input": rows, "cu_seqlens": torch.tensor([0, 4, 4, 9]), "resets": torch.rand(9) < 0.3}


def nested(x: Tensor) -> dict[str, Any]:
    rows = x.flatten(0, 1)[:8]
    return {"input": torch.nested.nested_tensor_from_jagged(rows, torch.tensor([0, 1, 6, 8]))}


Form = Callable[[Tensor], dict[str, Any]]
FORMS = [padded, with_lengths, with_lengths_and_resets, with_resets, packed, concatenated, nested]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bidirectional": {"bidirectional": True},
    "no bias": {"bias": False},
    "original cell": {"reset_after": False, "bidirectional": True},
    "original cell, no bias": {"reset_after": False, "bias": False, "recurrent_dropout": 0.3},
    "layer norm": {"layer_norm": True, "bidirectional": True},
    "layer norm, no bias": {"layer_norm": True, "bias": False, "zoneout": 0.3},
    "recurrent dropout": {"recurrent_dropout": 0.4},
    "zoneout": {"zoneout": 0.4, "bidirectional": True},
    "weight dropout": {"weight_dropout": 0.4},
    "dropout": {"num_layers": 2, "dropout": 0.4},
    "variational dropout": {"num_layers": 2, "dropout": 0.4, "variational": True, "bidirectional": True},
    "tbptt": {"tbptt": 2, "bidirectional": True},
    "learned initial state": {"learn_initial_state": True, "bidirectional": True},
    "recompute": {"memory": "recompute"},
    "checkpoint": {"memory": "checkpoint", "bidirectional": True},
    "sizes of their own": {"hidden_size": [5, 4]},
}
TOGETHER = {
    "num_layers": 1, "bidirectional": True, "recurrent_dropout": 0.3, "zoneout": 0.3, "weight_dropout": 0.2,
    "tbptt": 2, "learn_initial_state": True,
}  # fmt: skip


def flat(output: Any) -> Tensor:
    return output.data if isinstance(output, PackedSequence) else output.values() if output.is_nested else output


def results(
    gru: fastgru.GRU, form: Form, h0: Tensor | None, sizes: tuple[int, int, int] = (T, B, I)
) -> dict[str, Tensor]:
    """The outputs and all gradients; in training the same masks for every backend."""
    torch.manual_seed(1)
    x = torch.randn(sizes, requires_grad=True)
    output, h_n = gru(**form(x), hx=h0)
    y = flat(output)
    leaves = {"x": x, **({} if h0 is None else {"h0": h0}), **dict(gru.named_parameters())}
    gradients = torch.autograd.grad(
        (y, h_n), list(leaves.values()), (torch.randn(y.shape), torch.randn(h_n.shape)), allow_unused=True
    )
    named = zip(leaves.items(), gradients, strict=True)
    found = {name: torch.zeros_like(leaf) if gradient is None else gradient for (name, leaf), gradient in named}
    return {"y": y, "h_n": h_n, **found}


def beside_reference(
    options: dict[str, Any], form: Form, has_h0: bool = True, training: bool = True, **sizes: int
) -> None:
    options = {"hidden_size": sizes.get("hidden", H), **options}
    shape = (sizes.get("steps", T), sizes.get("batch", B), I)
    theirs = fastgru.GRU(I, **options, backend="reference").train(training)
    ours = fastgru.GRU(I, **options, backend="triton").train(training)
    if theirs.learn_initial_state:
        torch.nn.init.normal_(theirs.initial_state)
    ours.load_state_dict(theirs.state_dict())
    h0 = torch.randn(theirs.spec.states_shape(shape[1]), requires_grad=True) if has_h0 else None
    expected, found = results(theirs, form, h0, shape), results(ours, form, h0, shape)
    for name, right in expected.items():
        difference = (found[name] - right).abs().max() / right.abs().max().clamp(min=1)
        assert difference <= BOUND, f"{name}: {difference:.1e}"


@pytest.mark.parametrize(("number", "name"), [*enumerate(OPTIONS)], ids=[*OPTIONS])
def test_triton_option_is_the_definitions(number: int, name: str) -> None:
    beside_reference(OPTIONS[name], FORMS[number % len(FORMS)], has_h0=number % 3 > 0 and "learn" not in name)


@pytest.mark.parametrize("cell", [{}, {"reset_after": False}, {"layer_norm": True}], ids=["after", "before", "norm"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_triton_options_together_are_the_definitions(form: Form, cell: dict[str, Any]) -> None:
    beside_reference({**TOGETHER, **cell}, form, has_h0=False)


@pytest.mark.parametrize("options", [{"zoneout": 0.4}, {"zoneout": 0.4, "layer_norm": True}], ids=["plain", "norm"])
def test_triton_zoneout_in_eval_is_the_definitions(options: dict[str, Any]) -> None:
    beside_reference(options, with_resets, training=False)


@pytest.mark.parametrize(
    "sizes",
    [{"hidden": 1}, {"hidden": 16, "steps": 1}, {"hidden": 40, "batch": 1}, {"batch": 17, "steps": 2}],
    ids=lambda sizes: "-".join(f"{name}{size}" for name, size in sizes.items()),
)
def test_triton_sizes_are_the_definitions(sizes: dict[str, int]) -> None:
    beside_reference({"bidirectional": True}, padded, **sizes)
    beside_reference({"layer_norm": True}, padded, **sizes)
