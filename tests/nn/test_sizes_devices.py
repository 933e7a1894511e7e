"""Sizes of other kinds than int, and a default device that is not the input's."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads

import fastgru

T, B, I, H = 6, 3, 4, 4
KINDS = {
    "NumPy's": np.int64,
    "a product": lambda size: np.prod((1, size)),
    "an array's": np.array,
    "torch's": torch.tensor,
}


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_of_other_kinds_are_ints_when_built(kind: str) -> None:
    of = KINDS[kind]
    gru = fastgru.GRU(of(I), of(H), of(2))
    assert [type(size) for size in (gru.input_size, gru.hidden_size, gru.num_layers)] == [int] * 3
    assert gru(torch.ones(T, B, I))[1].shape == (2, B, H)
    assert fastgru.GRU(I, [of(3), of(5)]).hidden_size == (3, 5)
    cell = fastgru.GRUCell(of(I), of(H))
    assert type(cell.hidden_size) is int
    assert cell(torch.ones(B, I)).shape == (B, H)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", ["input_size", "hidden_size", "num_layers"])
@pytest.mark.parametrize("kind", KINDS)
def test_sizes_of_other_kinds_may_be_set_later(kind: str, name: str, grad: bool) -> None:
    for module, given in (
        (fastgru.GRU(I, H), torch.randn(T, B, I)),
        (fastgru.GRU(I, H), torch.randn(1, B, I)),
        (fastgru.GRUCell(I, H), torch.randn(B, I)),
    ):
        if not hasattr(module, name):
            continue
        with torch.set_grad_enabled(grad):
            expected = module(given)
            setattr(module, name, KINDS[kind](getattr(module, name)))
            torch.testing.assert_close(module(given), expected)


@pytest.mark.parametrize("size", [4.0, np.array([3, 4]), torch.tensor(4.0), "4", None], ids=repr)
def test_a_size_that_is_none_is_refused_in_torchs_words(size: Any) -> None:
    for module in (torch.nn.GRU, fastgru.GRU):
        with pytest.raises(TypeError, match="hidden_size should be of type int, got: "):
            module(I, size)


FORMS: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {
    "plain": ({}, {}),
    "lengths": ({}, {"lengths": torch.tensor([2, 6, 0])}),
    "resets": ({}, {"resets": torch.eye(T, B).bool()}),
    "mask": ({}, {"mask": torch.arange(T) < torch.tensor([2, 6, 0])[:, None]}),
    "learned state": ({"learn_initial_state": True}, {"resets": torch.eye(T, B).bool()}),
    "noise": ({"zoneout": 0.2, "recurrent_dropout": 0.3, "weight_dropout": 0.1}, {}),
    "variational": ({"dropout": 0.3, "variational": True}, {}),
    "tbptt": ({"tbptt": 2}, {}),
}


@pytest.mark.parametrize("memory", ["gates", "recompute", "checkpoint"])
@pytest.mark.parametrize("form", FORMS)
def test_the_default_device_need_not_be_the_inputs(form: str, memory: str) -> None:
    options, steps = FORMS[form]
    gru = fastgru.GRU(I, H, 2, bidirectional=True, memory=memory, **options)
    x = torch.randn(T, B, I, requires_grad=True)

    def outcome() -> list[Tensor]:
        torch.manual_seed(1)
        y, h_n = gru(x, **steps)
        return [y, h_n, *torch.autograd.grad(y.sum() + h_n.sum(), [x, *gru.parameters()])]

    expected = outcome()
    with torch.device("meta"):
        found = outcome()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_default_device_may_be_another_for_rows_and_cells() -> None:
    gru, cell, x = fastgru.GRU(I, H, memory="checkpoint"), fastgru.GRUCell(I, H), torch.randn(T * B, I)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x.view(T, B, I), torch.tensor([6, 3, 1]))
    offsets = torch.tensor([0, 4, 4, T * B])

    def outcome() -> list[Tensor]:
        y = [gru(packed)[0].data, gru(x, cu_seqlens=offsets)[0], cell(x, cell(x))]
        return [*y, *torch.autograd.grad(sum(out.sum() for out in y), [*gru.parameters(), *cell.parameters()])]

    expected = outcome()
    with torch.device("meta"):
        found = outcome()
    torch.testing.assert_close(found, expected)


def test_per_sample_gradients_of_expanded_weights_are_torchs() -> None:
    theirs, ours = torch.nn.GRU(I, H, 2, batch_first=True), fastgru.GRU(I, H, 2, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(B, T, I)
    for module in (theirs, ours):
        y, _ = call_for_per_sample_grads(module, batch_size=B, loss_reduction="sum")(x)
        y.square().sum().backward()
    for own, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own.grad_sample, expected.grad_sample)


def test_in_eval_torchs_operator_is_asked_for_training_where_gradients_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cuDNN's backward refuses what its forward computed for inference."""
    asked: list[tuple[float, bool]] = []
    operator = torch.gru

    def noted(*given: Any) -> Any:
        asked.append((given[5], given[6]))
        return operator(*given)

    monkeypatch.setattr(torch, "gru", noted)
    gru, x = fastgru.GRU(I, H, 2, dropout=0.5, backend="aten"), torch.randn(T, B, I)
    gru.eval()(x)
    with torch.no_grad():
        gru(x)
    gru.train()(x)
    assert asked == [(0.0, True), (0.0, False), (0.5, True)]
