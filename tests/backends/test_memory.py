"""memory="recompute" and "checkpoint": the same gradients with less kept for backward."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastgru
from fastgru.cli.benchmark import saved_bytes
from fastgru.ops import memory

T, B, I, H = 30, 4, 3, 5
LENGTHS = torch.tensor([30, 7, 0, 19])
RESETS = torch.rand(T, B, generator=torch.Generator().manual_seed(3)) < 0.15
ENDS = torch.tensor([0, 33, 33, 40, T * B])
LESS = ["recompute", "checkpoint"]


def unpack(results: tuple[PackedSequence, Tensor]) -> tuple[Tensor, Tensor]:
    return results[0].data, results[1]


def nested(gru: fastgru.GRU, x: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor]:
    y, h_n = gru(torch.nested.nested_tensor_from_jagged(x.flatten(0, 1), ENDS), h0)
    return y.values(), h_n


Call = Callable[[fastgru.GRU, Tensor, Tensor | None], tuple[Tensor, Tensor]]
CALLS: dict[str, Call] = {
    "all": lambda gru, x, h0: gru(x, h0),
    "lengths": lambda gru, x, h0: gru(x, h0, lengths=LENGTHS),
    "resets": lambda gru, x, h0: gru(x, h0, resets=RESETS),
    "lengths and resets": lambda gru, x, h0: gru(x, h0, lengths=LENGTHS, resets=RESETS),
    "packed": lambda gru, x, h0: unpack(gru(pack_padded_sequence(x, LENGTHS.clamp(1), enforce_sorted=False), h0)),
    "cu_seqlens": lambda gru, x, h0: gru(x.flatten(0, 1), h0, cu_seqlens=ENDS),
    "cu_seqlens and resets": lambda gru, x, h0: gru(x.flatten(0, 1), h0, cu_seqlens=ENDS, resets=RESETS.flatten()),
    "nested": nested,
}
OPTIONS: list[dict[str, object]] = [
    {},
    {"bidirectional": True, "num_layers": 2, "dropout": 0.3},
    {"bidirectional": True, "tbptt": 4},
    {"bidirectional": True, "tbptt": 17},
    {"bidirectional": True, "learn_initial_state": True, "recurrent_dropout": 0.3, "zoneout": 0.3},
    {"bias": False, "reset_after": False, "weight_dropout": 0.2},
    {"bidirectional": True, "layer_norm": True},
]


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 5 of the 30 steps, not of all of them."""
    monkeypatch.setattr(memory, "_ROWS", dict.fromkeys(LESS, 1))


def build(kept: str, dtype: torch.dtype = torch.float64, **options: object) -> fastgru.GRU:
    torch.manual_seed(0)
    gru = fastgru.GRU(I, H, dtype=dtype, memory=kept, **options)
    if gru.learn_initial_state:
        torch.nn.init.normal_(gru.initial_state)
    return gru


def outcome(gru: fastgru.GRU, call: Call, run: Callable[..., tuple[Tensor, Tensor]] | None = None) -> list[Tensor]:
    """The outputs and, for random cotangents, all gradients."""
    torch.manual_seed(1)
    dtype = gru.weight_ih_l0.dtype
    x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    states = gru.num_layers * (1 + gru.bidirectional)
    h0 = None if gru.learn_initial_state else torch.randn(states, B, H, dtype=dtype, requires_grad=True)
    outputs = call(gru if run is None else run, x, h0)  # type: ignore[arg-type]
    leaves = [x, *([] if h0 is None else [h0]), *gru.parameters()]
    return [*outputs, *torch.autograd.grad(outputs, leaves, [torch.randn_like(o) for o in outputs])]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_gradients_are_those_of_kept_gates(call: str, options: dict[str, object]) -> None:
    expected = outcome(build("gates", **options, backend="cpu"), CALLS[call])
    for kept in LESS:
        found = outcome(build(kept, **options, backend="cpu"), CALLS[call])
        for got, want in zip(found, expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kept", LESS)
@pytest.mark.parametrize("backend", ["aten", "reference"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "dropout": 0.3, "bidirectional": True}], ids=str)
def test_torchs_operators_are_computed_again(backend: str, kept: str, options: dict[str, object]) -> None:
    found = outcome(build(kept, **options, backend=backend), CALLS["all"])
    torch.testing.assert_close(found, outcome(build("gates", **options, backend=backend), CALLS["all"]))


@pytest.mark.parametrize("kept", LESS)
def test_compiled_under_autocast_and_in_half(kept: str) -> None:
    for name in ("all", "lengths and resets"):
        compiled = [
            outcome(gru, CALLS[name], torch.compile(gru, fullgraph=True, backend="aot_eager"))
            for gru in (build(kept, bidirectional=True), build("gates", bidirectional=True))
        ]
        torch.testing.assert_close(*compiled, rtol=1e-12, atol=1e-13)
    half = [outcome(build(each, torch.bfloat16, bidirectional=True), CALLS["all"]) for each in (kept, "gates")]
    torch.testing.assert_close(*half)
    with torch.autocast("cpu"):
        mixed = [outcome(build(each, torch.float32), CALLS["lengths"]) for each in (kept, "gates")]
    torch.testing.assert_close(*mixed)


@pytest.mark.parametrize("kept", LESS)
def test_transforms_and_second_derivatives(kept: str) -> None:
    results = []
    for gru in (build(kept, bidirectional=True), build("gates", bidirectional=True)):
        parameters = dict(gru.named_parameters())
        x = torch.randn(3, 12, 2, I, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

        def loss(parameters: dict[str, Tensor], x: Tensor, gru: fastgru.GRU = gru) -> Tensor:
            return torch.func.functional_call(gru, parameters, (x,))[0].square().sum()

        each = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(None, 0))(parameters, x)
        one = x[0].clone().requires_grad_()
        (first,) = torch.autograd.grad(loss(parameters, one), one, create_graph=True)
        results.append((each, torch.autograd.grad(first.square().sum(), [one, *gru.parameters()])))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("directions", [1, 2])
def test_what_is_kept(directions: int) -> None:
    x = torch.randn(1024, 2, I)
    for kept, numbers in (("gates", 1024 * 4), ("recompute", 0), ("checkpoint", 1024 // 32 - 1)):
        gru = build(kept, torch.float32, bidirectional=directions == 2, backend="cpu")
        assert saved_bytes(gru, x) == numbers * 2 * H * directions * x.element_size()


def test_checkpoint_keeps_no_output() -> None:
    gru = build("checkpoint", torch.float32, backend="cpu")
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        y, _ = gru(torch.randn(T, B, I))
    assert y.data_ptr() not in kept


_PEAK = """
import torch
import fastgru

def peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

def beyond(memory: str, steps: int) -> int:
    gru = fastgru.GRU(128, 128, memory=memory, backend="cpu")
    x, dy = torch.randn(steps, 1, 128, requires_grad=True), torch.randn(steps, 1, 128)
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # the peak begins anew
    before = peak()
    y, _ = gru(x)
    torch.autograd.grad(y, [x, *gru.parameters()], dy)
    return peak() - before - 2 * y.nbytes  # the output, and the gradient of x

torch.set_num_threads(1)
beyond("checkpoint", 10_000)  # brings in all code
print(beyond("checkpoint", 100_000))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from Linux's /proc")
def test_long_sequences_train_in_10_megabytes() -> None:
    done = subprocess.run([sys.executable, "-c", _PEAK], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 10e6


def test_an_unknown_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="memory must be one of 'gates', 'recompute', 'checkpoint', got 'none'"):
        fastgru.GRU(I, H, memory="none")
    assert "memory=recompute" in repr(fastgru.GRU(I, H, memory="recompute"))
