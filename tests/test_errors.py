"""What torch refuses is refused with torch's type and words, by every backend."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fastgru

Refused = Callable[[ModuleType], object]


def packed() -> PackedSequence:
    return pack_sequence([torch.zeros(3, 3), torch.zeros(2, 3)])


BUILD: dict[str, Refused] = {
    "no arguments": lambda nn: nn.GRU(),
    "no hidden_size": lambda nn: nn.GRU(3),
    "an unknown keyword": lambda nn: nn.GRU(3, 4, units=5),
    "proj_size": lambda nn: nn.GRU(3, 4, proj_size=0),
    "a device in proj_size's place": lambda nn: nn.GRU(3, 4, 1, True, False, 0.0, False, "cpu"),
    "input_size of 0": lambda nn: nn.GRU(0, 4),
    "hidden_size below 0": lambda nn: nn.GRU(3, -4),
    "hidden_size as float": lambda nn: nn.GRU(3, 4.0),
    "input_size as text": lambda nn: nn.GRU("3", 4),
    "num_layers of 0": lambda nn: nn.GRU(3, 4, 0),
    "dropout above 1": lambda nn: nn.GRU(3, 4, 2, dropout=1.5),
    "dropout as bool": lambda nn: nn.GRU(3, 4, 2, dropout=True),
    "bias as int": lambda nn: nn.GRU(3, 4, bias=1),
    "batch_first as int": lambda nn: nn.GRU(3, 4, batch_first=1),
}

RUN: dict[str, Refused] = {
    "4-D input": lambda nn: nn.GRU(3, 4)(torch.zeros(1, 1, 1, 3)),
    "1-D input": lambda nn: nn.GRU(3, 4)(torch.zeros(3)),
    "a wrong feature size": lambda nn: nn.GRU(3, 4)(torch.zeros(5, 2, 4)),
    "a wrong dtype": lambda nn: nn.GRU(3, 4)(torch.zeros(5, 2, 3, dtype=torch.float64)),
    "an integer input": lambda nn: nn.GRU(3, 4)(torch.zeros(5, 2, 3, dtype=torch.int64)),
    "no steps": lambda nn: nn.GRU(3, 4)(torch.zeros(0, 2, 3)),
    "no steps, batch first": lambda nn: nn.GRU(3, 4, batch_first=True)(torch.zeros(2, 0, 3)),
    "a 2-D state for a batch": lambda nn: nn.GRU(3, 4)(torch.zeros(5, 2, 3), torch.zeros(2, 4)),
    "a 3-D state for one sequence": lambda nn: nn.GRU(3, 4)(torch.zeros(5, 3), torch.zeros(1, 1, 4)),
    "a state of another batch": lambda nn: nn.GRU(3, 4)(torch.zeros(5, 2, 3), torch.zeros(1, 3, 4)),
    "a state of another size": lambda nn: nn.GRU(3, 4)(torch.zeros(5, 2, 3), torch.zeros(1, 2, 5)),
    "a state of too few layers": lambda nn: nn.GRU(3, 4, 2)(torch.zeros(5, 2, 3), torch.zeros(1, 2, 4)),
    "a packed batch and a wrong state": lambda nn: nn.GRU(3, 4)(packed(), torch.zeros(1, 3, 4)),
    "a packed batch of wrong features": lambda nn: nn.GRU(2, 4)(packed()),
    "a list": lambda nn: nn.GRU(3, 4)([1, 2]),
    "cell: 3-D input": lambda nn: nn.GRUCell(3, 4)(torch.zeros(1, 1, 3)),
    "cell: 3-D state": lambda nn: nn.GRUCell(3, 4)(torch.zeros(1, 3), torch.zeros(1, 1, 4)),
    "cell: a wrong feature size": lambda nn: nn.GRUCell(3, 4)(torch.zeros(2, 5)),
    "cell: a state of another batch": lambda nn: nn.GRUCell(3, 4)(torch.zeros(2, 3), torch.zeros(3, 4)),
    "cell: a state of another size": lambda nn: nn.GRUCell(3, 4)(torch.zeros(2, 3), torch.zeros(2, 5)),
    "cell: a 1-D state for a batch": lambda nn: nn.GRUCell(3, 4)(torch.zeros(2, 3), torch.zeros(4)),
    "cell: an unknown keyword": lambda nn: nn.GRUCell(3, 4, units=5),
}


class WithBackend:
    """fastgru's modules, asked for one backend: a stand-in for the module `torch.nn`."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def GRU(self, *args: object, **kwargs: object) -> fastgru.GRU:  # noqa: N802
        return fastgru.GRU(*args, backend=self.backend, **kwargs)

    def GRUCell(self, *args: object, **kwargs: object) -> fastgru.GRUCell:  # noqa: N802
        return fastgru.GRUCell(*args, backend=self.backend, **kwargs)


@pytest.mark.parametrize("backend", ["auto", "cpu", "aten", "reference"])
@pytest.mark.parametrize("what", [*BUILD, *RUN])
def test_errors_are_torchs(what: str, backend: str) -> None:
    attempt = {**BUILD, **RUN}[what]
    with pytest.raises(Exception, match=r"\w") as expected:
        attempt(torch.nn)
    with pytest.raises(type(expected.value)) as got:
        attempt(WithBackend(backend))
    assert type(got.value) is type(expected.value)
    assert str(got.value) == str(expected.value)


def test_dropout_on_one_layer_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="dropout option adds dropout") as expected:
        torch.nn.GRU(3, 4, dropout=0.5)
    with pytest.warns(UserWarning, match="dropout option adds dropout") as got:
        fastgru.GRU(3, 4, dropout=0.5)
    assert str(got[0].message) == str(expected[0].message)


@pytest.mark.parametrize("layer", [fastgru.GRU, fastgru.GRUCell])
def test_unknown_backend_is_refused_when_built(layer: type) -> None:
    with pytest.raises(ValueError, match="backend must be one of 'auto', 'cpu', 'aten', 'reference', got 'cuda'"):
        layer(3, 4, backend="cuda")


def test_unknown_backend_is_refused_when_run() -> None:
    gru = fastgru.GRU(3, 4)
    gru.backend = "cuda"
    with pytest.raises(ValueError, match="backend must be one of"):
        gru(torch.zeros(1, 1, 3))
