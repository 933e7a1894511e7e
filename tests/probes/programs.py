"""torch.compile, torch.export, ONNX and TorchScript."""

import io
import tempfile

import onnxruntime
import torch
from torch.export import Dim

import fastgru
from probes import COMPILE, EXPORT, B, H, I, Kind, Layer, T, build, draw, probe, results, same


@probe(COMPILE, "`fullgraph=True`, forward and backward (aot_eager)")
def whole_graph(kind: Kind) -> None:
    layer = build(kind)
    same(results(torch.compile(layer, fullgraph=True, backend="aot_eager"), draw()), results(layer, draw()))


@probe(COMPILE, "`fullgraph=True` with inductor, forward")
def inductor(kind: Kind) -> None:
    layer = build(kind).requires_grad_(False)
    same(torch.compile(layer, fullgraph=True)(draw()), layer(draw()))


@probe(COMPILE, "`dynamic=True`: one graph for all T and B")
def one_graph(kind: Kind) -> str | None:
    layer, graphs = build(kind).requires_grad_(False), []

    def count(graph: torch.fx.GraphModule, inputs: list[object]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=count)
    for steps, batch in ((T, B), (T + 3, B + 2), (T + 1, B + 5)):
        same(compiled(draw(steps, batch, I)), layer(draw(steps, batch, I)))
    return None if len(graphs) == 1 else f"{len(graphs)} graphs for 3 sizes"


@probe(COMPILE, "a packed batch, `fullgraph=True` (aot_eager)")
def packed_graph(kind: Kind) -> None:
    layer = build(kind).requires_grad_(False)
    packed = torch.nn.utils.rnn.pack_sequence([draw(4, I), draw(2, I)])
    same(torch.compile(layer, fullgraph=True, backend="aot_eager")(packed)[1], layer(packed)[1])


def export(kind: Kind, strict: bool) -> None:
    layer = build(kind, batch_first=True)
    sizes = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},)
    program = torch.export.export(layer, (draw(B, T, I),), dynamic_shapes=sizes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    other = draw(B + 4, T + 6, I)
    same(torch.export.load(file).module()(other), layer(other))


@probe(EXPORT, "torch.export with symbolic T and B, saved and loaded")
def export_loosely(kind: Kind) -> None:
    export(kind, strict=False)


@probe(EXPORT, "the same, `strict=True`")
def export_strictly(kind: Kind) -> None:
    export(kind, strict=True)


@probe(EXPORT, "torch.onnx.export with symbolic T and B, in onnxruntime")
def onnx(kind: Kind) -> None:
    layer = build(kind, bidirectional=False).requires_grad_(False).eval()
    program = torch.onnx.export(
        layer,
        (draw(),),
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: "T", 1: "B"},),
    )
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        program.save(file.name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])
    other = draw(T + 2, B + 1, I)
    same([torch.from_numpy(out) for out in session.run(None, {"input": other.numpy()})], [*layer(other)])


@probe(EXPORT, "`fastgru.export_onnx`")
def checked_onnx(kind: Kind) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fastgru.export_onnx(build(kind), f"{folder}/gru.onnx", (draw(),))


@probe(EXPORT, "torch.onnx.export(dynamo=False) with open T and B, in onnxruntime")
def older_onnx(kind: Kind) -> None:
    layer = build(kind).eval()
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        torch.onnx.export(
            layer,
            (draw(), torch.zeros(2 * layer.num_layers, B, H)),
            file.name,
            input_names=["x", "h0"],
            dynamic_axes={"x": {0: "T", 1: "B"}, "h0": {1: "B"}},
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(file.name, providers=["CPUExecutionProvider"])
    x, h0 = draw(T + 2, B + 1, I), torch.randn(2 * layer.num_layers, B + 1, H)
    found = session.run(None, {"x": x.numpy(), "h0": h0.numpy()})
    same([torch.from_numpy(out) for out in found], [*layer(x, h0)])


@probe(EXPORT, "torch.jit.trace, differentiated; the program loads without fastgru")
def trace(kind: Kind) -> None:
    layer = build(kind)
    traced = torch.jit.trace(layer, (draw(),))
    assert "fastgru::" not in str(traced.inlined_graph)
    x = draw(T + 2, B + 1, I)
    outputs = [program(x)[0] for program in (traced, layer)]
    found, expected = (torch.autograd.grad(y.square().sum(), [*layer.parameters()]) for y in outputs)
    same([outputs[0], *found], [outputs[1], *expected])


class Holder(torch.nn.Module):
    """A module that calls a layer, with the types that TorchScript asks for."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


@probe(EXPORT, "torch.jit.script")
def script(kind: Kind) -> None:
    layer = build(kind).requires_grad_(False)
    same(torch.jit.script(Holder(layer))(draw()), layer(draw())[0])


@probe(EXPORT, "make_fx, one graph for all T and B")
def fx_graph(kind: Kind) -> None:
    layer = build(kind, num_layers=1).requires_grad_(False)
    weights = dict(layer.named_parameters())

    def call(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, weights, (x,))[0]

    graph = torch.fx.experimental.proxy_tensor.make_fx(call, tracing_mode="symbolic")(weights, draw())
    same(graph(weights, draw(T + 2, B + 1, I)), layer(draw(T + 2, B + 1, I))[0])
