"""What torch refuses is refused with torch's type and words, by every backend."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import zeros
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fastgru

Refused = Callable[[ModuleType], object]


def packed() -> PackedSequence:
    return pack_sequence([zeros(3, 3), zeros(2, 3)])


def unsorted() -> PackedSequence:
    return pack_sequence([zeros(2, 3), zeros(3, 3)], enforce_sorted=False)


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
    "a device that is none": lambda nn: nn.GRU(3, 4, device="gpu"),
    "an integer dtype": lambda nn: nn.GRU(3, 4, dtype=torch.int64),
    "a dtype as text": lambda nn: nn.GRU(3, 4, dtype="float32"),
    "num_layers as float": lambda nn: nn.GRU(3, 4, 1.5),
    "num_layers below 0": lambda nn: nn.GRU(3, 4, -1),
    "num_layers as text": lambda nn: nn.GRU(3, 4, "2"),
    "dropout below 0": lambda nn: nn.GRU(3, 4, 2, dropout=-0.1),
    "dropout as text": lambda nn: nn.GRU(3, 4, 2, dropout="a"),
    "dropout that is NaN": lambda nn: nn.GRU(3, 4, 2, dropout=float("nan")),
    "hidden_size of None": lambda nn: nn.GRU(3, None),
    "too many arguments": lambda nn: nn.GRU(3, 4, 1, True, False, 0.0, False, 0, None, None, 1),
    "an argument twice": lambda nn: nn.GRU(3, 4, hidden_size=4),
    "a nonlinearity": lambda nn: nn.GRU(3, 4, nonlinearity="relu"),
    "cell: no hidden_size": lambda nn: nn.GRUCell(3),
    "cell: hidden_size below 0": lambda nn: nn.GRUCell(3, -4),
    "cell: hidden_size as float": lambda nn: nn.GRUCell(3, 4.0),
    "cell: input_size as text": lambda nn: nn.GRUCell("3", 4),
    "cell: an integer dtype": lambda nn: nn.GRUCell(3, 4, dtype=torch.int32),
    "cell: a device that is none": lambda nn: nn.GRUCell(3, 4, device="gpu"),
}

RUN: dict[str, Refused] = {
    "4-D input": lambda nn: nn.GRU(3, 4)(zeros(1, 1, 1, 3)),
    "1-D input": lambda nn: nn.GRU(3, 4)(zeros(3)),
    "a wrong feature size": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 4)),
    "a wrong dtype": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3, dtype=torch.float64)),
    "an integer input": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3, dtype=torch.int64)),
    "no steps": lambda nn: nn.GRU(3, 4)(zeros(0, 2, 3)),
    "no steps, batch first": lambda nn: nn.GRU(3, 4, batch_first=True)(zeros(2, 0, 3)),
    "a 2-D state for a batch": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3), zeros(2, 4)),
    "a 3-D state for one sequence": lambda nn: nn.GRU(3, 4)(zeros(5, 3), zeros(1, 1, 4)),
    "a state of another batch": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3), zeros(1, 3, 4)),
    "a state of another size": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3), zeros(1, 2, 5)),
    "a state of too few layers": lambda nn: nn.GRU(3, 4, 2)(zeros(5, 2, 3), zeros(1, 2, 4)),
    "a packed batch and a wrong state": lambda nn: nn.GRU(3, 4)(packed(), zeros(1, 3, 4)),
    "a packed batch of wrong features": lambda nn: nn.GRU(2, 4)(packed()),
    "a list": lambda nn: nn.GRU(3, 4)([1, 2]),
    "None": lambda nn: nn.GRU(3, 4)(None),
    "nothing": lambda nn: nn.GRU(3, 4)(),
    "an array of NumPy": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3).numpy()),
    "a number": lambda nn: nn.GRU(3, 4)(zeros()),
    "an unknown keyword in the call": lambda nn: nn.GRU(3, 4)(x=zeros(5, 2, 3)),
    "a complex input": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3, dtype=torch.complex64)),
    "a bool input": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3, dtype=torch.bool)),
    "a half input": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3, dtype=torch.float16)),
    "a bfloat16 input": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3, dtype=torch.bfloat16)),
    "a state as an LSTM has it": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3), (zeros(1, 2, 4), zeros(1, 2, 4))),
    "a list as state": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3), [zeros(1, 2, 4)]),
    "a number as state": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3), 0.0),
    "a 4-D state": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3), zeros(1, 1, 2, 4)),
    "a state of one direction": lambda nn: nn.GRU(3, 4, bidirectional=True)(zeros(5, 2, 3), zeros(1, 2, 4)),
    "a state batch first": lambda nn: nn.GRU(3, 4, batch_first=True)(zeros(2, 5, 3), zeros(2, 1, 4)),
    "one sequence of wrong features": lambda nn: nn.GRU(3, 4)(zeros(5, 2)),
    "one sequence and a 1-D state": lambda nn: nn.GRU(3, 4)(zeros(5, 3), zeros(4)),
    "one sequence and a wrong state": lambda nn: nn.GRU(3, 4)(zeros(5, 3), zeros(1, 5)),
    "one sequence, too few states": lambda nn: nn.GRU(3, 4, 2)(zeros(5, 3), zeros(1, 4)),
    "one sequence of no steps": lambda nn: nn.GRU(3, 4)(zeros(0, 3)),
    "no steps and a state": lambda nn: nn.GRU(3, 4, 2, bidirectional=True)(zeros(0, 2, 3), zeros(4, 2, 4)),
    "no steps of nobody": lambda nn: nn.GRU(3, 4)(zeros(0, 0, 3)),
    "a packed batch and a 2-D state": lambda nn: nn.GRU(3, 4)(packed(), zeros(1, 4)),
    "a packed batch and a 4-D state": lambda nn: nn.GRU(3, 4)(packed(), zeros(1, 1, 2, 4)),
    "a packed batch and a state of another size": lambda nn: nn.GRU(3, 4)(packed(), zeros(1, 2, 5)),
    "a packed batch and too few states": lambda nn: nn.GRU(3, 4, 2)(packed(), zeros(1, 2, 4)),
    "a packed batch of another dtype": lambda nn: nn.GRU(3, 4)(packed().double()),
    "a packed batch of integers": lambda nn: nn.GRU(3, 4)(packed().long()),
    "an unsorted packed batch and a state of one": lambda nn: nn.GRU(3, 4)(unsorted(), zeros(1, 1, 4)),
    "a packed batch with a 3-D tensor": lambda nn: nn.GRU(3, 4)(PackedSequence(zeros(2, 2, 3), torch.tensor([2]))),
    "a packed batch with a 1-D tensor": lambda nn: nn.GRU(3, 4)(PackedSequence(zeros(3), torch.tensor([1]))),
    "a packed batch of no steps": lambda nn: nn.GRU(3, 4)(PackedSequence(zeros(0, 3), torch.tensor([]).long())),
    "cell: None": lambda nn: nn.GRUCell(3, 4)(None),
    "cell: a list": lambda nn: nn.GRUCell(3, 4)([1.0]),
    "cell: a number": lambda nn: nn.GRUCell(3, 4)(zeros()),
    "cell: a packed batch": lambda nn: nn.GRUCell(3, 4)(packed()),
    "cell: a tuple as state": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3), (zeros(2, 4),)),
    "cell: a number as state": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3), zeros()),
    "cell: a 2-D state for one": lambda nn: nn.GRUCell(3, 4)(zeros(3), zeros(1, 4)),
    "cell: two states for one": lambda nn: nn.GRUCell(3, 4)(zeros(3), zeros(2, 4)),
    "cell: a 1-D state for a batch of its size": lambda nn: nn.GRUCell(3, 4)(zeros(4, 3), zeros(4)),
    "cell: wrong features of one": lambda nn: nn.GRUCell(3, 4)(zeros(5)),
    "cell: a state of another size for one": lambda nn: nn.GRUCell(3, 4)(zeros(3), zeros(5)),
    "cell: a state for nobody": lambda nn: nn.GRUCell(3, 4)(zeros(0, 3), zeros(1, 4)),
    "cell: 3-D input": lambda nn: nn.GRUCell(3, 4)(zeros(1, 1, 3)),
    "cell: 3-D state": lambda nn: nn.GRUCell(3, 4)(zeros(1, 3), zeros(1, 1, 4)),
    "cell: a wrong feature size": lambda nn: nn.GRUCell(3, 4)(zeros(2, 5)),
    "cell: a state of another batch": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3), zeros(3, 4)),
    "cell: a state of another size": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3), zeros(2, 5)),
    "cell: a 1-D state for a batch": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3), zeros(4)),
    "cell: an unknown keyword": lambda nn: nn.GRUCell(3, 4, units=5),
}

# What a backend that was asked for refuses in words of its own, or, being the definition, takes.
KINDS: dict[str, Refused] = {
    **{
        f"a state of {dtype}": lambda nn, dtype=dtype: nn.GRU(3, 4)(zeros(5, 2, 3), zeros(1, 2, 4, dtype=dtype))
        for dtype in (torch.float64, torch.float16, torch.int64, torch.complex64)
    },
    "a packed batch and a state of float64": lambda nn: nn.GRU(3, 4)(packed(), zeros(1, 2, 4).double()),
    "an input on meta": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3, device="meta")),
    "weights on meta": lambda nn: nn.GRU(3, 4, device="meta")(zeros(5, 2, 3)),
    "a state on meta": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3), zeros(1, 2, 4, device="meta")),
    "a sparse input": lambda nn: nn.GRU(3, 4)(zeros(5, 2, 3).to_sparse()),
    "cell: a wrong dtype": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3).double()),
    "cell: a half input": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3).half()),
    "cell: an integer input": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3).long()),
    "cell: a state of float64": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3), zeros(2, 4).double()),
    "cell: an integer state": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3), zeros(2, 4).long()),
    "cell: an input on meta": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3, device="meta")),
    "cell: weights on meta": lambda nn: nn.GRUCell(3, 4, device="meta")(zeros(2, 3)),
    "cell: a state on meta": lambda nn: nn.GRUCell(3, 4)(zeros(2, 3), zeros(2, 4, device="meta")),
}


class WithBackend:
    """fastgru's modules, asked for one backend: a stand-in for the module `torch.nn`."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def GRU(self, *args: object, **kwargs: object) -> fastgru.GRU:  # noqa: N802
        return fastgru.GRU(*args, backend=self.backend, **kwargs)

    def GRUCell(self, *args: object, **kwargs: object) -> fastgru.GRUCell:  # noqa: N802
        return fastgru.GRUCell(*args, backend=self.backend, **kwargs)


EVERYWHERE = [(what, name) for what in (*BUILD, *RUN) for name in ("auto", "cpu", "aten", "reference")]


@pytest.mark.parametrize(("what", "backend"), [*EVERYWHERE, *((what, "auto") for what in KINDS)])
def test_errors_are_torchs(what: str, backend: str) -> None:
    attempt = {**BUILD, **RUN, **KINDS}[what]
    with pytest.raises(Exception, match=r"\w") as expected:
        attempt(torch.nn)
    with pytest.raises(type(expected.value)) as got:
        attempt(WithBackend(backend))
    assert type(got.value) is type(expected.value)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("what", KINDS)
def test_kernels_that_were_asked_for_say_what_they_take(what: str) -> None:
    with pytest.raises(RuntimeError, match=r"no backend can serve this layer \(cpu: its kernels .*try backend='auto'"):
        KINDS[what](WithBackend("cpu"))


def test_bidirectional_that_is_no_bool_is_refused_when_built() -> None:
    with pytest.raises(TypeError, match="combination of arguments"):
        torch.nn.GRU(3, 4, bidirectional=2)(zeros(5, 2, 3))
    with pytest.raises(TypeError, match="bidirectional should be of type bool, got: int"):
        fastgru.GRU(3, 4, bidirectional=2)


def test_cell_takes_a_sparse_input_without_a_state_as_torchs_does() -> None:
    x, cells = zeros(2, 3).fill_(1).to_sparse(), (torch.nn.GRUCell(3, 4), fastgru.GRUCell(3, 4))
    cells[1].load_state_dict(cells[0].state_dict())
    torch.testing.assert_close(cells[1](x), cells[0](x))


def test_dropout_on_one_layer_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="dropout option adds dropout") as expected:
        torch.nn.GRU(3, 4, dropout=0.5)
    with pytest.warns(UserWarning, match="dropout option adds dropout") as got:
        fastgru.GRU(3, 4, dropout=0.5)
    assert str(got[0].message) == str(expected[0].message)


@pytest.mark.parametrize("layer", [fastgru.GRU, fastgru.GRUCell])
def test_unknown_backend_is_refused_when_built(layer: type) -> None:
    with pytest.raises(
        ValueError, match="backend must be one of 'auto', 'cpu', 'triton', 'aten', 'reference', got 'cuda'"
    ):
        layer(3, 4, backend="cuda")


def test_unknown_backend_is_refused_when_run() -> None:
    gru = fastgru.GRU(3, 4)
    gru.backend = "cuda"
    with pytest.raises(ValueError, match="backend must be one of"):
        gru(zeros(1, 1, 3))
