"""fastgru.warm_up: every pass runs once, and nothing of the module changes."""

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import fastgru
from fastgru.backends.cpu import CpuBackend


class Model(torch.nn.Module):
    """A GRU, and a norm that counts what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.norm = fastgru.GRU(3, 4, 2, dropout=0.5), torch.nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"found": self.norm(self.gru(x)[0][-1])}


@pytest.mark.parametrize(
    ("training", "expected"), [(True, ["forward"] * 4 + ["backward"] * 2), (False, ["forward"] * 2)]
)
def test_warm_up_runs_what_the_mode_needs(training: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("forward", "backward"):
        own = getattr(CpuBackend, name)
        monkeypatch.setattr(CpuBackend, name, lambda *a, n=name, f=own, **k: (calls.append(n), f(*a, **k))[1])
    fastgru.warm_up(Model().train(training), torch.randn(5, 2, 3))
    assert calls == expected


def test_warm_up_changes_nothing() -> None:
    model, x = Model(), torch.randn(5, 2, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    fastgru.warm_up(model, x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_warm_up_takes_packed_sequences_and_frozen_weights() -> None:
    gru = fastgru.GRU(3, 4).requires_grad_(False)
    fastgru.warm_up(gru, pack_padded_sequence(torch.randn(5, 2, 3), torch.tensor([5, 2])))
