"""fastgru.GRU against torch.nn.GRU: numbers, dropout, packing, initialisation, state_dict, repr."""

import copy
import inspect
import pickle

import pytest
import torch
from grid import CASES, B, Case, H, I, T, pair, relative_error, results
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fastgru

BACKENDS = ["cpu", "aten", "reference"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gru_float64_equals_torch(case: Case, backend: str) -> None:
    theirs, ours = pair(case, torch.float64, backend)
    x, h0 = case.inputs(torch.float64)
    expected, got = results(theirs, case, x, h0), results(ours, case, x, h0)
    assert got.keys() == expected.keys()
    for name in expected:
        assert got[name].shape == expected[name].shape, name
        assert relative_error(got[name], expected[name]) <= 1e-14, name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", ["batched", "packed"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gru_dropout_draws_torchs_masks(backend: str, form: str, bidirectional: bool) -> None:
    case = Case(3, bidirectional, True, False, form, True)
    theirs, ours = pair(case, torch.float64, backend, dropout=0.4)
    x, h0 = case.inputs(torch.float64)
    expected, got = results(theirs, case, x, h0), results(ours, case, x, h0)
    for name in expected:
        assert relative_error(got[name], expected[name]) <= 1e-14, name
    other = results(ours, case, x, h0, seed=7)
    assert relative_error(other["y"], got["y"]) > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_gru_dropout_does_nothing_in_eval(backend: str) -> None:
    case = Case(2, True, True, True, "batched", False)
    theirs, ours = pair(case, torch.float64, backend, dropout=0.9)
    x, _ = case.inputs(torch.float64)
    y, h_n = ours.eval()(x)
    expected_y, expected_h_n = theirs.eval()(x)
    torch.testing.assert_close(y, expected_y)
    torch.testing.assert_close(h_n, expected_h_n)


def test_gru_dropout_one_zeroes_what_it_drops() -> None:
    case = Case(2, False, True, False, "batched", False)
    for backend in BACKENDS:
        theirs, ours = pair(case, torch.float64, backend, dropout=1.0)
        x, _ = case.inputs(torch.float64)
        torch.testing.assert_close(ours(x), theirs(x))


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 9)] * 4),
    options=st.tuples(st.integers(1, 3), st.booleans(), st.booleans(), st.booleans()),
    backend=st.sampled_from(BACKENDS),
    with_h0=st.booleans(),
    transposed=st.booleans(),
)
def test_gru_any_shape_equals_torch(
    sizes: tuple[int, int, int, int],
    options: tuple[int, bool, bool, bool],
    backend: str,
    with_h0: bool,
    transposed: bool,
) -> None:
    steps, batch, features, units = sizes
    layers, bias, batch_first, bidirectional = options
    theirs = torch.nn.GRU(features, units, layers, bias, batch_first, 0.0, bidirectional, dtype=torch.float64)
    ours = fastgru.GRU(
        features, units, layers, bias, batch_first, 0.0, bidirectional, dtype=torch.float64, backend=backend
    )
    ours.load_state_dict(theirs.state_dict())
    shape = (batch, steps) if batch_first else (steps, batch)
    if transposed:
        x = torch.randn(features, *shape[::-1], dtype=torch.float64).permute(2, 1, 0)
    else:
        x = torch.randn(*shape, features, dtype=torch.float64)
    h0 = torch.randn(layers * (2 if bidirectional else 1), batch, units, dtype=torch.float64) if with_h0 else None
    torch.testing.assert_close(ours(x, h0), theirs(x, h0), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gru_empty_batch_gives_empty_results(backend: str) -> None:
    y, h_n = fastgru.GRU(I, H, 2, bidirectional=True, backend=backend)(torch.zeros(T, 0, I))
    assert y.shape == (T, 0, 2 * H)
    assert h_n.shape == (4, 0, H)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gru_packed_in_gives_packed_out(backend: str) -> None:
    gru = fastgru.GRU(I, H, backend=backend)
    packed = pack_sequence([torch.randn(2, I), torch.randn(4, I)], enforce_sorted=False)
    output, h_n = gru(packed)
    assert isinstance(output, PackedSequence)
    assert output.batch_sizes.tolist() == [2, 2, 1, 1]
    assert output.sorted_indices is packed.sorted_indices
    assert h_n.shape == (1, 2, H)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gru_reference_half_precision_carries_float32(dtype: torch.dtype) -> None:
    case = Case(2, True, True, False, "batched", True)
    theirs, ours = pair(case, dtype, "reference")
    x, h0 = case.inputs(dtype)
    y, h_n = ours(x, h0)
    assert y.dtype == h_n.dtype == dtype
    exact = copy.deepcopy(theirs).double()
    expected, _ = exact(x.double(), h0.double())
    theirs_y, _ = theirs(x, h0)
    assert relative_error(y, expected) <= 2 * torch.finfo(dtype).eps
    assert relative_error(y, expected) < relative_error(theirs_y, expected)


@pytest.mark.parametrize("case", [case for case in CASES if case.form == "batched" and not case.batch_first], ids=str)
def test_gru_same_seed_gives_torchs_weights(case: Case) -> None:
    torch.manual_seed(5)
    theirs = torch.nn.GRU(I, H, **case.options)
    torch.manual_seed(5)
    ours = fastgru.GRU(I, H, **case.options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight), name


def test_gru_state_dict_goes_both_ways() -> None:
    theirs, ours = torch.nn.GRU(I, H, 2, bidirectional=True), fastgru.GRU(I, H, 2, bidirectional=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(T, B, I)
    torch.testing.assert_close(theirs(x), ours(x))


@pytest.mark.parametrize(
    "arguments",
    [
        "256, 256",
        "3, 4, num_layers=2, batch_first=True",
        "3, 4, 2, False, True, 0.5, True",
        "3, 4, bias=False",
        "3, 4, bidirectional=True",
        "3, 4, 1, True, False, 0.0, False, 0, 'cpu', torch.float64",
        "3, 4, device='meta', dtype=torch.float16",
    ],
)
def test_gru_constructor_and_repr_are_torchs(arguments: str) -> None:
    theirs, ours = eval(f"torch.nn.GRU({arguments})"), eval(f"fastgru.GRU({arguments})")
    assert repr(ours) == repr(theirs)
    for name, weight in theirs.named_parameters():
        mine = getattr(ours, name)
        assert (mine.shape, mine.dtype, mine.device) == (weight.shape, weight.dtype, weight.device)
    assert {key: ours.__dict__[key] for key in theirs.__constants__} == {
        key: theirs.__dict__[key] for key in theirs.__constants__
    }


def test_gru_repr_names_a_backend_that_was_asked_for() -> None:
    assert repr(fastgru.GRU(3, 4, backend="reference")) == "GRU(3, 4, backend='reference')"
    assert repr(fastgru.GRUCell(3, 4, backend="aten")) == "GRUCell(3, 4, backend='aten')"


@pytest.mark.parametrize("name", ["GRU", "GRUCell"])
def test_forward_has_torchs_signature(name: str) -> None:
    """First torch's parameters, then our own, which may be left out."""
    theirs = [*inspect.signature(getattr(torch.nn, name).forward).parameters.values()]
    ours = [*inspect.signature(getattr(fastgru, name).forward).parameters.values()]
    shared, own = ours[: len(theirs)], ours[len(theirs) :]
    assert [(p.name, p.default) for p in shared] == [(p.name, p.default) for p in theirs]
    assert all(p.default is None for p in own)


def test_gru_survives_pickle_and_deepcopy() -> None:
    gru = fastgru.GRU(I, H, 2, backend="reference")
    x = torch.randn(T, B, I)
    for twin in (copy.deepcopy(gru), pickle.loads(pickle.dumps(gru))):
        assert twin.backend == "reference"
        torch.testing.assert_close(twin(x), gru(x), rtol=0, atol=0)


def test_gru_functional_call_uses_the_given_weights() -> None:
    gru = fastgru.GRU(I, H)
    zeros = {name: torch.zeros_like(weight) for name, weight in gru.named_parameters()}
    y, _ = torch.func.functional_call(gru, zeros, torch.randn(T, B, I))
    assert torch.equal(y, torch.zeros(T, B, H))


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_h", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_cell_equals_torch(backend: str, bias: bool, with_h: bool, batched: bool) -> None:
    torch.manual_seed(3)
    theirs = torch.nn.GRUCell(I, H, bias, dtype=torch.float64)
    torch.manual_seed(3)
    ours = fastgru.GRUCell(I, H, bias, dtype=torch.float64, backend=backend)
    shape = (B,) if batched else ()
    x = torch.randn(*shape, I, dtype=torch.float64, requires_grad=True)
    h = torch.randn(*shape, H, dtype=torch.float64, requires_grad=True) if with_h else None
    cotangent = torch.randn(*shape, H, dtype=torch.float64)
    results = []
    for cell in (theirs, ours):
        out = cell(x, h)
        leaves = [x, *([] if h is None else [h]), *cell.parameters()]
        results.append([out, *torch.autograd.grad(out, leaves, cotangent)])
    for expected, got in zip(*results, strict=True):
        assert got.shape == expected.shape
        assert relative_error(got, expected) <= 1e-14


def test_cell_repr_and_state_dict_are_torchs() -> None:
    for bias in (False, True):
        theirs, ours = torch.nn.GRUCell(3, 4, bias), fastgru.GRUCell(3, 4, bias)
        assert repr(ours) == repr(theirs)
        assert ours.load_state_dict(theirs.state_dict()).missing_keys == []
