"""torch.jit: what torch.nn.GRU can express becomes torch's own operator, and the program loads without fastgru."""

import io
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastgru

T, B, I, H = 5, 3, 4, 6
LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stacked": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "without bias": {"bias": False},
    "recompute": {"memory": "recompute"},
    "checkpoint": {"memory": "checkpoint", "num_layers": 2},
    "a size for each layer": {"hidden_size": [H, H + 1]},
    "initial state": {"learn_initial_state": True},
    "asked for aten": {"backend": "aten"},
}
ALONE = """
import sys
class Refused:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "fastgru":
            raise ImportError("fastgru is not here")
sys.meta_path.insert(0, Refused())
import torch
program, x, expected = torch.jit.load(sys.argv[1]), *torch.load(sys.argv[2])
for got, wanted in zip(program(x), expected, strict=True):
    torch.testing.assert_close(got, wanted)
"""


@pytest.fixture(autouse=True)
def _deprecated_as_it_is() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        yield


def layer(name: str) -> fastgru.GRU:
    return fastgru.GRU(I, **{"hidden_size": H, **LAYERS[name]})


@pytest.mark.parametrize("with_h0", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_traced_layer_is_torchs_operator_for_any_size(name: str, with_h0: bool) -> None:
    gru = layer(name)

    def given(steps: int, batch: int) -> tuple[Tensor, ...]:
        x = torch.randn((batch, steps, I) if gru.batch_first else (steps, batch, I))
        return (x, torch.randn(gru.spec.states_shape(batch))) if with_h0 else (x,)

    program = torch.jit.trace(gru, given(T, B))
    assert "fastgru::" not in str(program.inlined_graph)
    for arguments in (given(2 * T, B + 2), given(1, 1)):
        torch.testing.assert_close(program(*arguments), gru(*arguments))
    x, *rest = given(T, B)
    outputs = [traced(x.requires_grad_(), *rest)[0] for traced in (program, gru)]
    cotangent = torch.randn_like(outputs[0])
    found = [torch.autograd.grad(y, [x, *gru.parameters()], cotangent, allow_unused=True) for y in outputs]
    torch.testing.assert_close(*found)


def test_a_traced_cell_and_a_model_load_where_fastgru_is_not(tmp_path: Path) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.cell = fastgru.GRU(I, H, 2, bidirectional=True), fastgru.GRUCell(2 * H, H)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y, h_n = self.gru(x)
            return y, self.cell(y[-1], h_n[0])

    model, x = Model().eval(), torch.randn(2 * T, B + 1, I)
    for number, make in enumerate((lambda: torch.jit.trace(model, (torch.randn(T, B, I),)), lambda: script(model))):
        expected = model(x)
        torch.jit.save(make(), tmp_path / f"{number}.pt")
        torch.save((x, tuple(y.detach() for y in expected)), tmp_path / "values.pt")
        command = [sys.executable, "-c", ALONE, tmp_path / f"{number}.pt", tmp_path / "values.pt"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_packed_sequences_are_traced() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = fastgru.GRU(I, H)

        def forward(self, data: Tensor, batch_sizes: Tensor) -> tuple[Tensor, Tensor]:
            y, h_n = self.gru(PackedSequence(data, batch_sizes))
            return y.data, h_n

    packed = pack_padded_sequence(torch.randn(T, B, I), torch.tensor([5, 3, 1]))
    model = Model()
    program = torch.jit.trace(model, (packed.data, packed.batch_sizes))
    assert "fastgru::" not in str(program.inlined_graph)
    other = pack_padded_sequence(torch.randn(T + 2, B + 1, I), torch.tensor([7, 3, 2, 1]))
    for data, batch_sizes, *_ in (packed, other):
        torch.testing.assert_close(program(data, batch_sizes), model(data, batch_sizes))


@pytest.mark.parametrize("options", [{"zoneout": 0.1}, {"layer_norm": True}, {"reset_after": False}], ids=str)
def test_a_layer_beyond_torchs_says_that_its_program_needs_fastgru(options: dict[str, Any]) -> None:
    gru, x = fastgru.GRU(I, H, **options).eval(), torch.randn(T, B, I)
    with pytest.warns(UserWarning, match="it loads where fastgru is imported, and nowhere else"):
        program = torch.jit.trace(gru, (x,))
    torch.testing.assert_close(program(x), gru(x))
    with pytest.raises(RuntimeError, match=f"GRU cannot be scripted: it has {next(iter(options))}="):
        torch.jit.script(gru)


def script(model: torch.nn.Module) -> torch.nn.Module:
    return torch.jit.script(model)


@pytest.mark.parametrize("bias", [False, True])
def test_a_scripted_layer_is_torchs_with_the_same_parameters(bias: bool) -> None:
    gru, cell = fastgru.GRU(I, H, 2, bias, backend="cpu"), fastgru.GRUCell(I, H, bias)
    x = torch.randn(T, B, I)
    for module, given in ((gru, x), (cell, x[0])):
        expected = module(given)
        scripted = torch.jit.script(torch.nn.Sequential(module))  # torch.nn.GRU itself has no forward once scripted
        torch.testing.assert_close(scripted(given), expected)
        file = io.BytesIO()
        torch.jit.save(scripted, file)
        file.seek(0)
        torch.testing.assert_close(torch.jit.load(file)(given), expected)
        torch.testing.assert_close(module(given), expected)  # it is as it was
        assert type(module).__module__.startswith("fastgru")
        assert [p.data_ptr() for p in scripted.parameters()] == [p.data_ptr() for p in module.parameters()]
