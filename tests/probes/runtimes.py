"""Programs that leave Python, or torch: OpenVINO, AOTInductor, and what both need."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim, ExportedProgram

import fastgru
from probes import EXPORT, B, I, Kind, Layer, T, build, draw, probe, same


def exported(layer: Layer) -> ExportedProgram:
    """With B open, in torch's own operators."""
    program = torch.export.export(layer, (draw(),), dynamic_shapes=({1: Dim.DYNAMIC},))
    return program.run_decompositions(fastgru.decompositions())


@probe(EXPORT, "an exported program in torch's own operators (`fastgru.decompositions()`), open B")
def own_operators(kind: Kind) -> None:
    layer = build(kind, num_layers=1)
    program = exported(layer)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert {target.namespace for target in targets if isinstance(target, torch._ops.OpOverload)} == {"aten"}
    same(program.module()(draw(T, B + 4, I)), layer(draw(T, B + 4, I)))


def openvino_gives_the_same(made: object, layer: Layer, *sizes: tuple[int, int]) -> None:
    import openvino

    compiled = openvino.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for steps, batch in sizes:
        x = draw(steps, batch, I)
        found = compiled((x.numpy(),)).values()
        same([torch.from_numpy(np.array(out)) for out in found], [*layer(x)], rtol=1e-5, atol=1e-6)


@probe(EXPORT, "OpenVINO `convert_model` of a module, and of a trace, open T and B")
def openvino_module(kind: Kind) -> None:
    openvino = pytest.importorskip("openvino")
    layer = build(kind, num_layers=1).eval().requires_grad_(False)
    for program in (layer, torch.jit.trace(layer, (draw(),))):
        made = openvino.convert_model(program, example_input=draw())
        openvino_gives_the_same(made, layer, (T, B), (T + 2, B + 1))


@probe(EXPORT, "OpenVINO `convert_model` of an exported program in torch's own operators, open B")
def openvino_program(kind: Kind) -> None:
    openvino = pytest.importorskip("openvino")
    layer = build(kind, num_layers=1).eval().requires_grad_(False)
    openvino_gives_the_same(openvino.convert_model(exported(layer)), layer, (T, B), (T, B + 1))


ELSEWHERE = """
import sys, torch
path, example = sys.argv[1:]
given, expected = torch.load(example)

def run():
    torch.testing.assert_close([*torch._inductor.aoti_load_package(path)(given)], expected)

try:
    run()
except RuntimeError as error:
    assert "Could not find schema for fastgru::layer" in str(error), error
    from fastgru import GRU
    run()
    print("yes, with the kernels, after `from fastgru import GRU`")
"""


@probe(EXPORT, "AOTInductor, open B (fastgru: T too), loaded in another process")
def aot_inductor(kind: Kind) -> str | None:
    layer = build(kind, num_layers=1, bidirectional=False).eval().requires_grad_(False)
    given, sizes, x = draw(2, B, I), {1: Dim.DYNAMIC}, draw(2, B + 1, I)
    if kind is fastgru.GRU:
        sizes, x = sizes | {0: Dim.DYNAMIC}, draw(T, B + 1, I)
    program = torch.export.export(layer, (given,), dynamic_shapes=(sizes,))
    quick = {"aot_inductor.compile_wrapper_opt_level": "O0"}
    with tempfile.TemporaryDirectory() as folder:
        path, example = Path(folder) / "layer.pt2", Path(folder) / "example.pt"
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=quick)
        torch.save((x, [*layer(x)]), example)
        command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE, path, example]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip() or None
