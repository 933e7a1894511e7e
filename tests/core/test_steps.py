"""Which steps a sequence has: lengths, resets, concatenated and nested sequences, on every path."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastgru

T, B, I, H = 6, 5, 3, 7
LENGTHS = torch.tensor([4, 6, 1, 4, 2])
GAPS = torch.tensor([4, 0, 6, 0, 3])
BACKENDS = ["cpu", "reference"]
LAYERS = list(itertools.product((1, 2), (False, True), (False, True)))  # layers, bidirectional, batch_first


def layer(backend: str, layers: int = 1, bidirectional: bool = False, batch_first: bool = False) -> fastgru.GRU:
    torch.manual_seed(0)
    options = {"num_layers": layers, "bidirectional": bidirectional, "batch_first": batch_first}
    return fastgru.GRU(I, H, **options, dtype=torch.float64, backend=backend)


def inputs(gru: fastgru.GRU) -> tuple[Tensor, Tensor]:
    """x and h0, to be differentiated."""
    torch.manual_seed(1)
    x = torch.randn((B, T, I) if gru.batch_first else (T, B, I), dtype=torch.float64, requires_grad=True)
    states = gru.num_layers * (2 if gru.bidirectional else 1)
    return x, torch.randn(states, B, H, dtype=torch.float64, requires_grad=True)


def some_resets(gru: fastgru.GRU) -> Tensor:
    torch.manual_seed(2)
    resets = torch.rand(T, B) < 0.4
    resets[:, 1] = False
    return resets.T if gru.batch_first else resets


def outcome(gru: torch.nn.Module, outputs: tuple[Tensor, Tensor], x: Tensor, h0: Tensor) -> list[Tensor]:
    """The outputs and, for random cotangents, all gradients."""
    torch.manual_seed(3)
    leaves = [x, h0, *gru.parameters()]
    return [*outputs, *torch.autograd.grad(outputs, leaves, [torch.randn(o.shape, dtype=o.dtype) for o in outputs])]


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("layers", "bidirectional", "batch_first"), LAYERS)
def test_lengths_are_torchs_packing_and_unpacking(
    backend: str, layers: int, bidirectional: bool, batch_first: bool
) -> None:
    ours = layer(backend, layers, bidirectional, batch_first)
    theirs = torch.nn.GRU(I, H, layers, batch_first=batch_first, bidirectional=bidirectional, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    x, h0 = inputs(ours)
    packed = pack_padded_sequence(x, LENGTHS, batch_first=batch_first, enforce_sorted=False)
    y, h_n = theirs(packed, h0)
    expected = outcome(theirs, (pad_packed_sequence(y, batch_first=batch_first)[0], h_n), x, h0)
    for lengths in (LENGTHS, LENGTHS.int()):
        assert_same(outcome(ours, ours(x, h0, lengths=lengths), x, h0), expected)


@pytest.mark.parametrize("with_resets", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS, GAPS, torch.zeros(B, dtype=torch.int64)], ids=str)
@pytest.mark.parametrize(("layers", "bidirectional", "batch_first"), LAYERS)
def test_kernels_steps_are_the_references(
    layers: int, bidirectional: bool, batch_first: bool, lengths: Tensor | None, with_resets: bool
) -> None:
    results = []
    for backend in BACKENDS:
        gru = layer(backend, layers, bidirectional, batch_first)
        x, h0 = inputs(gru)
        resets = some_resets(gru) if with_resets else None
        results.append(outcome(gru, gru(x, h0, lengths=lengths, resets=resets), x, h0))
        with torch.no_grad():
            assert_same(list(gru(x, h0, lengths=lengths, resets=resets)), results[-1][:2])
    assert_same(*results)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_changes_nothing_and_has_no_gradient(backend: str, poison: float) -> None:
    gru = layer(backend, 2, True)
    x, h0 = inputs(gru)
    padding = torch.arange(T)[:, None] >= GAPS
    poisoned = x.detach().masked_fill(padding[..., None], poison).requires_grad_()
    resets = some_resets(gru)
    clean = outcome(gru, gru(x, h0, lengths=GAPS, resets=resets), x, h0)
    dirty = outcome(gru, gru(poisoned, h0, lengths=GAPS, resets=resets | padding), poisoned, h0)
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a, b)
    y, h_n, dx = dirty[:3]
    assert not y[padding].any()
    assert not dx[padding].any()
    assert torch.equal(h_n[:, GAPS == 0], h0[:, GAPS == 0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_concatenated_sequences_are_each_on_its_own(backend: str, bidirectional: bool) -> None:
    gru = layer(backend, 2, bidirectional)
    ends = torch.tensor([0, 4, 4, 10, 13], dtype=torch.int32)
    torch.manual_seed(1)
    x = torch.randn(13, I, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(2 * (1 + bidirectional), 4, H, dtype=torch.float64, requires_grad=True)
    together = outcome(gru, gru(x, h0, cu_seqlens=ends), x, h0)
    parts = [
        gru(x[begin:end], h0[:, i]) if end > begin else (x.new_empty(0, H * (1 + bidirectional)), h0[:, i])
        for i, (begin, end) in enumerate(itertools.pairwise(ends.tolist()))
    ]
    apart = torch.cat([y for y, _ in parts]), torch.stack([h_n for _, h_n in parts], dim=1)
    assert_same(together, outcome(gru, apart, x, h0))
    resets = torch.zeros(13, dtype=torch.bool)
    resets[[0, 6, 12]] = True
    reset = gru(x, h0, cu_seqlens=ends, resets=resets)
    more = torch.tensor([0, 0, 4, 4, 6, 10, 12, 13])  # the same as segments, each a sequence of its own
    start = torch.zeros(h0.size(0), 7, H, dtype=torch.float64)
    start[0 :: 1 + bidirectional, [2, 3, 5]] = h0[0 :: 1 + bidirectional, 1:].detach()
    if bidirectional:
        start[1::2, [1, 4, 6]] = h0[1::2, [0, 2, 3]].detach()
    y, _ = gru(x, start, cu_seqlens=more)
    torch.testing.assert_close(reset[0], y)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nested_tensor_in_and_out(backend: str) -> None:
    gru = layer(backend, 2, True)
    torch.manual_seed(1)
    parts = [torch.randn(n, I, dtype=torch.float64, requires_grad=True) for n in (3, 1, 5)]
    nested = torch.nested.as_nested_tensor(parts, layout=torch.jagged)
    y, h_n = gru(nested)
    assert y.is_nested
    for i, (part, own) in enumerate(zip(parts, y.unbind(), strict=True)):
        expected, last = gru(part)
        torch.testing.assert_close(own, expected)
        torch.testing.assert_close(h_n[:, i], last)
        (alone,) = torch.autograd.grad(expected.square().sum() + last.sum(), part)
        (together,) = torch.autograd.grad(own.square().sum() + h_n[:, i].sum(), part, retain_graph=True)
        torch.testing.assert_close(together, alone)


def test_lengths_are_not_for_torchs_operator() -> None:
    with pytest.raises(RuntimeError, match="knows no lengths"):
        layer("aten")(torch.randn(T, B, I, dtype=torch.float64), lengths=LENGTHS)


def test_dropout_between_layers_draws_for_the_real_steps_alone() -> None:
    theirs = torch.nn.GRU(I, H, 2, dropout=0.5)
    lengths = LENGTHS.sort(descending=True).values
    x = torch.randn(T, B, I)
    torch.manual_seed(4)
    expected, _ = theirs(pack_padded_sequence(x, lengths))
    for backend in BACKENDS:
        ours = fastgru.GRU(I, H, 2, dropout=0.5, backend=backend)
        ours.load_state_dict(theirs.state_dict())
        torch.manual_seed(4)
        y, _ = ours(x, lengths=lengths)
        torch.testing.assert_close(y, pad_packed_sequence(expected)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_steps_are_refused(backend: str) -> None:
    gru = layer(backend)
    x, _ = inputs(gru)
    rows = x.detach().flatten(0, 1)
    refused = {
        r"lengths must be from 0 to T=6, got \[4, 7, 1, 4, 2\]": {"lengths": torch.tensor([4, 7, 1, 4, 2])},
        r"lengths must be from 0 to T=6, got \[4, -1, 1, 4, 2\]": {"lengths": torch.tensor([4, -1, 1, 4, 2])},
        r"lengths must be \[5\] int64 or int32 for this input, got \[3\] int64": {"lengths": torch.tensor([1, 2, 3])},
        r"lengths must be .* got \[5\] float32": {"lengths": LENGTHS.float()},
        r"resets must be \[6, 5\] bool for this input, got \[6, 5\] int64": {"resets": torch.zeros(T, B).long()},
    }
    for words, options in refused.items():
        with pytest.raises(ValueError, match=words):
            gru(x, **options)
    with pytest.raises(TypeError, match="lengths must be a tensor, got a list"):
        gru(x, lengths=LENGTHS.tolist())
    with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0 in RNN"):
        gru(x[:0], lengths=torch.zeros(B, dtype=torch.int64))
    for words, ends in {
        "offsets must go from 0 to the 30 rows": torch.tensor([0, 4, 29]),
        "never fall": torch.tensor([0, 8, 4, 30]),
        r"cu_seqlens must be \[B \+ 1\] int64 or int32, got \[2\] float32": torch.tensor([0.0, 30.0]),
    }.items():
        with pytest.raises(ValueError, match=words):
            gru(rows, cu_seqlens=ends)
    with pytest.raises(ValueError, match="with cu_seqlens the input must be"):
        gru(x, cu_seqlens=torch.tensor([0, 30]))
    with pytest.raises(ValueError, match="lengths cannot be given together with a PackedSequence"):
        gru(pack_padded_sequence(x, LENGTHS, enforce_sorted=False), lengths=LENGTHS)


STEPS = {
    "lengths": {"lengths": GAPS},
    "resets": {"resets": torch.rand(T, B, generator=torch.Generator().manual_seed(5)) < 0.4},
    "both": {"lengths": GAPS, "resets": torch.rand(T, B, generator=torch.Generator().manual_seed(5)) < 0.4},
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_steps_have_derivatives_of_both_orders_and_forward_mode(steps: dict[str, Tensor]) -> None:
    gru = layer("auto", 1, True)
    names, weights = zip(*gru.named_parameters(), strict=True)

    def run(x: Tensor, h0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(gru, dict(zip(names, weights, strict=True)), (x, h0), steps)

    arguments = (*inputs(gru), *weights)
    assert torch.autograd.gradcheck(run, arguments, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, arguments, fast_mode=True)


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_steps_under_vmap_are_a_loop(steps: dict[str, Tensor]) -> None:
    gru = layer("auto", 2, True)
    xs = torch.randn(3, T, B, I, dtype=torch.float64)
    many = {name: torch.stack([value.roll(i, -1) for i in range(3)]) for name, value in steps.items()}
    weights = dict(gru.named_parameters())

    def loss(weights: dict[str, Tensor], x: Tensor, steps: dict[str, Tensor]) -> Tensor:
        y, h_n = torch.func.functional_call(gru, weights, (x,), steps)
        return y.square().sum() + h_n.sum()

    for in_dims, given in (((None, 0, None), steps), ((None, 0, 0), many)):
        each = [steps if given is steps else {name: value[i] for name, value in many.items()} for i in range(3)]
        values = torch.func.vmap(loss, in_dims)(weights, xs, given)
        expected = torch.stack([loss(weights, x, own) for x, own in zip(xs, each, strict=True)])
        torch.testing.assert_close(values, expected)
        gradients = torch.func.vmap(torch.func.grad(loss), in_dims)(weights, xs, given)
        for i in range(3):
            alone = torch.func.grad(loss)(weights, xs[i], each[i])
            for name, gradient in alone.items():
                torch.testing.assert_close(gradients[name][i], gradient)


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_steps_compile_without_a_graph_break(steps: dict[str, Tensor]) -> None:
    gru = layer("auto", 2, True)
    x, h0 = inputs(gru)
    compiled = torch.compile(gru, fullgraph=True, backend="aot_eager")
    expected = outcome(gru, gru(x, h0, **steps), x, h0)
    assert_same(outcome(gru, compiled(x, h0, **steps), x, h0), expected)


def test_lengths_in_half_precision_are_those_of_float() -> None:
    gru = fastgru.GRU(I, H, bidirectional=True)
    x = torch.randn(T, B, I)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = gru(x, lengths=LENGTHS)
    assert y.dtype is torch.bfloat16
    expected, _ = gru(x, lengths=LENGTHS)
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.02)
