"""The Triton backend in torch's modes, interpreted; who takes it, and what it says where it cannot serve."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

import fastgru
from fastgru import backends
from fastgru.backends import triton
from fastgru.backends.triton import TritonBackend, measured
from fastgru.backends.triton.plan import Device
from fastgru.core.steps import PLAIN, Steps
from fastgru.ops import library

pytestmark = pytest.mark.usefixtures("triton_interpreter")

T, B, I, H = 3, 2, 3, 4
TOLERANCE = {"rtol": 0, "atol": 2e-6}


def twins(**options: Any) -> tuple[fastgru.GRU, fastgru.GRU]:
    """The same weights on the Triton backend and on the CPU's."""
    ours, theirs = (fastgru.GRU(I, H, backend=name, **options) for name in ("triton", "cpu"))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(gru: fastgru.GRU, x: Tensor, create_graph: bool = False) -> tuple[Tensor, ...]:
    output, h_n = gru(x)
    loss = output.sin().sum() + h_n.cos().sum()
    return torch.autograd.grad(loss, [x, *gru.parameters()], create_graph=create_graph)


def second(gru: fastgru.GRU, x: Tensor) -> tuple[Tensor, ...]:
    total = sum(gradient.square().sum() for gradient in gradients(gru, x, create_graph=True))
    return torch.autograd.grad(total, [x, *gru.parameters()])


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}], ids=["plain", "norm"])
def test_triton_second_derivatives_are_the_cpus(options: dict[str, Any]) -> None:
    x = torch.randn(T, B, I, requires_grad=True)
    ours, theirs = twins(**options)
    for found, right in zip(second(ours, x), second(theirs, x), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def test_triton_per_sample_gradients_are_the_cpus() -> None:
    x = torch.randn(3, T, B, I)
    found = []
    for gru in twins():
        weights = dict(gru.named_parameters())

        def loss(weights: dict[str, Tensor], x: Tensor, gru: fastgru.GRU = gru) -> Tensor:
            return functional_call(gru, weights, (x,))[0].square().sum()

        found.append(vmap(grad(loss), in_dims=(None, 0))(weights, x))
    for name, right in found[1].items():
        torch.testing.assert_close(found[0][name], right, rtol=1e-5, atol=1e-5)


def test_triton_compiles_as_one_operator() -> None:
    ours, theirs = twins(bidirectional=True)
    x = torch.randn(T, B, I, requires_grad=True)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    for found, right in zip(gradients(compiled, x), gradients(theirs, x), strict=True):
        torch.testing.assert_close(found, right, **TOLERANCE)


def test_triton_exports_as_one_operator() -> None:
    ours, theirs = twins()
    x, sizes = torch.randn(T, B, I), {0: torch.export.Dim("T"), 1: torch.export.Dim("B")}
    program = torch.export.export(ours, (x,), dynamic_shapes={"input": sizes})
    operators = [node.target for node in program.graph.nodes if "fastgru" in str(node.target)]
    assert operators == [torch.ops.fastgru.layer.default]
    longer = torch.randn(T + 2, B + 1, I)
    torch.testing.assert_close(program.module()(longer), theirs(longer), **TOLERANCE)


def test_triton_fake_tensors_have_the_shapes_of_real_ones() -> None:
    gru, x = fastgru.GRU(I, H, bidirectional=True, backend="triton"), torch.randn(T, B, I)
    for memory in ("gates", "recompute", "checkpoint"):
        variant = gru.spec.variant._replace(memory=memory)
        arguments = (x, None, None, list(gru.parameters()), *(None,) * 6, *variant, B, True)
        real = library._layer_op("triton", *arguments)
        fake = library._layer_fake("triton", *arguments)
        assert [tensor.shape for tensor in fake] == [tensor.shape for tensor in real]


def test_triton_keeps_nothing_but_input_and_output() -> None:
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    for memory, most in (("gates", T * B * (I + H)), ("recompute", T * B * (I + H)), ("checkpoint", T * B * I)):
        gru = fastgru.GRU(I, H, memory=memory, backend="triton")
        own = {weight.data_ptr() for weight in gru.parameters()}
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            gru(torch.randn(T, B, I))
        assert sum(tensor.numel() for tensor in kept if tensor.data_ptr() not in own) == most


def test_triton_half_layers_come_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def forward(self: TritonBackend, given: Any, save: bool) -> tuple[Tensor, Tensor, None]:
        seen.append(given.x.dtype)
        return given.x.new_zeros(T, B, H), given.x.new_zeros(1, B, H), None

    monkeypatch.setattr(TritonBackend, "forward", forward)
    with torch.no_grad():
        fastgru.GRU(I, H, backend="triton", dtype=torch.bfloat16)(torch.zeros(T, B, I, dtype=torch.bfloat16))
    assert seen == [torch.bfloat16]


def why_not(gru: fastgru.GRU, x: Tensor, steps: Steps = PLAIN) -> str | None:
    return TritonBackend().why_not(gru._stack(), x, None, gru.weights(), steps)


def test_triton_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    gru, x = fastgru.GRU(I, H), torch.zeros(T, B, I)
    assert why_not(gru, x) is None
    wide = fastgru.GRU(I, H, dtype=torch.float64)
    assert why_not(wide, x.double()) == "its kernels take float32 and half precision, not float64"
    packed = Steps(batch_sizes=torch.tensor([1, 2]))
    assert why_not(gru, torch.zeros(3, I), packed) == "batch_sizes must be at least 1 and never grow"
    monkeypatch.setattr(triton, "device_of", lambda x: Device(75, 40, 65_536))
    assert why_not(gru, x) == "its kernels need a GPU of compute capability 8.0 or more, and this one has 7.5"
    monkeypatch.setattr(triton, "device_of", lambda x: Device(86, 2, 101_376))
    assert why_not(fastgru.GRU(I, 300), x) == "H=300 is too large for 2 multiprocessors"
    monkeypatch.delenv("TRITON_INTERPRET")
    assert why_not(gru, x) == "its kernels run on a GPU, not on cpu"
    monkeypatch.setattr(triton, "_HAS_TRITON", False)
    assert why_not(gru, x) == "Triton is not installed; pip install 'fastgru[gpu]' brings it"


def test_triton_refuses_lengths_that_cannot_be() -> None:
    gru, x = fastgru.GRU(I, H, backend="triton"), torch.zeros(T, B, I)
    with pytest.raises(ValueError, match=r"lengths must be from 0 to T=3, got \[4, 1\]"):
        gru(x, lengths=torch.tensor([4, 1]))
    with pytest.raises(ValueError, match=r"offsets must go from 0 to the 6 rows"):
        gru(x.flatten(0, 1), cu_seqlens=torch.tensor([0, 5]))
    with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0 in RNN"):
        gru(torch.zeros(0, B, I))


def test_triton_of_an_empty_batch_is_empty() -> None:
    gru = fastgru.GRU(I, H, backend="triton")
    rows, h0 = torch.zeros(0, I, requires_grad=True), torch.randn(1, 2, H, requires_grad=True)
    output, h_n = gru(rows, h0, cu_seqlens=torch.tensor([0, 0, 0]))
    assert output.shape == (0, H)
    assert torch.equal(h_n, h0)
    (dh0,) = torch.autograd.grad(h_n.sum() + output.sum(), h0)
    assert torch.equal(dh0, torch.ones_like(h0))
    assert gru(torch.zeros(T, 0, I))[0].shape == (T, 0, H)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the CPU were a GPU, to whoever asks which backend serves."""
    monkeypatch.setattr(triton, "is_interpreted", lambda: False)
    monkeypatch.setattr(triton, "_is_at_home", lambda tensor: True)
    monkeypatch.setattr(triton, "device_of", lambda x: Device(90, 132, 232_448))
    monkeypatch.setattr(backends, "is_plain_on_cpu", lambda tensor: False)
    without_cpu = tuple(backend for backend in backends.BACKENDS if backend.name != "cpu")
    monkeypatch.setattr(backends, "BACKENDS", without_cpu)


def chosen(gru: fastgru.GRU, steps: Steps = PLAIN, name: str = "auto") -> str:
    return backends.pick(name, gru._stack(), torch.zeros(T, B, I), None, gru.weights(), steps).name


@pytest.mark.usefixtures("on_a_gpu")
def test_auto_takes_triton_where_the_alternative_is_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, lengths = fastgru.GRU(I, H), Steps(lengths=torch.tensor([3, 0]))
    assert chosen(plain) == "aten"
    assert chosen(plain, name="triton") == "triton"
    assert chosen(plain, lengths) == "triton"
    for options in ({"layer_norm": True}, {"zoneout": 0.1}, {"tbptt": 2}, {"reset_after": False}):
        assert chosen(fastgru.GRU(I, H, **options)) == "triton"
    monkeypatch.setenv("FASTGRU_GPU", "aten")
    assert chosen(plain, lengths) == "reference"
    monkeypatch.setenv("FASTGRU_GPU", "triton")
    assert chosen(plain) == "triton"
    monkeypatch.setenv("FASTGRU_GPU", "cuda")
    with pytest.raises(ValueError, match="FASTGRU_GPU must be triton or aten, or not be set, got 'cuda'"):
        chosen(plain)


@pytest.mark.usefixtures("on_a_gpu")
def test_auto_goes_by_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    won = measured.case_of(90, torch.float32, H, B, is_trained=False)
    assert won == (90, "float32", 4, 2, "forward")
    file = tmp_path / "measured.json"
    measured.write(frozenset([won]), file)
    assert json.loads(file.read_text()) == [[90, "float32", 4, 2, "forward"]]
    monkeypatch.setattr(measured, "_TABLE", measured.read(file))
    gru = fastgru.GRU(I, H)
    with torch.no_grad():
        assert chosen(gru) == "triton"
        assert chosen(fastgru.GRU(I, 2 * H)) == "aten"
    assert chosen(gru) == "aten"


def test_the_table_of_auto_is_empty_until_a_gpu_fills_it() -> None:
    assert measured.read() == frozenset()


@pytest.mark.usefixtures("on_a_gpu")
def test_info_tells_why_auto_leaves_a_layer_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgru.about.BACKENDS", backends.BACKENDS)
    info = fastgru.info(fastgru.GRU(I, H))
    assert info.backend == "aten"
    expected = "could; nothing measured says that it is faster than torch's operator here; backend='triton' asks for it"
    assert info.verdict("triton") == expected
    assert fastgru.info(fastgru.GRU(I, H, layer_norm=True)).verdict("triton") == "serves this layer"


def test_auto_never_takes_the_interpreter() -> None:
    gru, x = fastgru.GRU(I, H, layer_norm=True), torch.zeros(T, B, I)
    asked = (gru._stack(), x, None, gru.weights(), PLAIN)
    assert TritonBackend().why_not_auto(*asked) == "TRITON_INTERPRET=1 is for tests, and slow"
