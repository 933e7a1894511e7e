"""What `python -m benchmarks.gpu` asks of a GPU, part by part: each yields rows, of numbers by name.

A dry run asks the same of Triton's interpreter at tiny sizes.
"""

import inspect
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

import fastgru

Row = dict[str, Any]
Call = Callable[[], object]

# The largest difference from the definition in float64, of the largest number of each tensor.
BOUNDS = {"float32 tf32x3": 2e-5, "float32 tf32": 1e-2, "bfloat16": 5e-2, "float16": 1e-2}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "original cell": {"reset_after": False},
    "layer norm": {"layer_norm": True},
    "recurrent dropout": {"recurrent_dropout": 0.3},
    "zoneout": {"zoneout": 0.3},
    "tbptt": {"tbptt": 7},
    "all": {"recurrent_dropout": 0.3, "zoneout": 0.3, "weight_dropout": 0.3, "tbptt": 7, "learn_initial_state": True},
}
FORMS = ("padded", "lengths", "resets", "packed", "concatenated")


class Machine:
    """Where it runs, and the sizes for it."""

    def __init__(self, is_dry: bool) -> None:
        self.is_dry = is_dry
        self.device = torch.device("cpu" if is_dry else "cuda")
        self.dtypes = [torch.float32] if is_dry else [torch.float32, torch.bfloat16, torch.float16]

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if not self.is_dry:
            torch.cuda.synchronize()

    def seconds(self, calls: dict[str, Call], rounds: int = 9) -> dict[str, float]:
        """Each one's median of a call, in turns."""
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(1 if self.is_dry else rounds):
            for name, call in calls.items():
                self.wait()
                start = time.perf_counter()
                call()
                self.wait()
                taken[name].append(time.perf_counter() - start)
        return {name: sorted(each)[len(each) // 2] for name, each in taken.items()}


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Inside, torch says so of float32 in recurrent layers: "tf32", its default, or "ieee"."""
    own: Any = torch.backends.cudnn
    before, own.rnn.fp32_precision = own.rnn.fp32_precision, precision
    try:
        yield
    finally:
        own.rnn.fp32_precision = before


def arguments(form: str, x: Tensor, lengths: Tensor, resets: Tensor) -> dict[str, Any]:
    """One of FORMS of an input."""
    if form == "packed":
        sizes = lengths.clamp(min=1).cpu()
        return {"input": torch.nn.utils.rnn.pack_padded_sequence(x, sizes, enforce_sorted=False)}
    if form == "concatenated":
        ends = lengths.cumsum(0)
        rows = x.flatten(0, 1)[: int(ends[-1])]
        return {"input": rows, "cu_seqlens": torch.nn.functional.pad(ends, (1, 0))}
    return {"input": x} | {name: value for name, value in (("lengths", lengths), ("resets", resets)) if name == form}


def results(gru: fastgru.GRU, form: str, sizes: tuple[int, int, int], device: torch.device) -> dict[str, Tensor]:
    """Outputs and gradients, of inputs that are the same for any dtype."""
    torch.manual_seed(0)
    steps, batch, _ = sizes
    weight = gru.weights()[0]
    x = torch.randn(sizes).to(weight).requires_grad_()
    lengths, resets = torch.randint(0, steps + 1, (batch,)).to(device), (torch.rand(steps, batch) < 0.1).to(device)
    torch.manual_seed(1)  # the masks'
    output, h_n = gru(**arguments(form, x, lengths, resets))
    y = output.data if isinstance(output, torch.nn.utils.rnn.PackedSequence) else output
    torch.manual_seed(2)
    cotangents = [torch.randn(tensor.shape).to(weight) for tensor in (y, h_n)]
    leaves = {"dx": x, **dict(gru.named_parameters())}
    found = torch.autograd.grad((y, h_n), [*leaves.values()], cotangents, allow_unused=True)
    named = zip(leaves, found, strict=True)
    return {"y": y, "h_n": h_n} | {name: gradient for name, gradient in named if gradient is not None}


def numerics(machine: Machine, part: int = 0, parts: int = 1) -> Iterator[Row]:
    """Every option in every precision beside the definition in float64: the largest difference, and its bound."""
    sizes = [16] if machine.is_dry else [64, 40, 128, 256, 512, 768, 1024, 1536]
    kinds = [(torch.float32, "ieee", "float32 tf32x3"), (torch.float32, "tf32", "float32 tf32")]
    kinds += [(torch.bfloat16, "tf32", "bfloat16"), (torch.float16, "tf32", "float16")]
    several = itertools.product(sizes, kinds[: 1 if machine.is_dry else 4], enumerate(OPTIONS.items()))
    for hidden, (dtype, precision, kind), (number, (name, options)) in itertools.islice(several, part, None, parts):
        if hidden not in (16, 40, 256, 1024) and name not in ("plain", "layer norm"):
            continue
        form, batch = FORMS[(number + hidden // 64) % len(FORMS)], (3, 33)[hidden % 3 == 1 and not machine.is_dry]
        both = hidden < 512
        ours = fastgru.GRU(
            24, hidden, bidirectional=both, backend="triton", dtype=dtype, device=machine.device, **options
        )
        theirs = fastgru.GRU(24, hidden, bidirectional=both, backend="reference", device=machine.device, **options)
        theirs.double().load_state_dict(ours.state_dict())
        shape = (4 if machine.is_dry else 30, batch, 24)
        with products(precision):
            found, right = (results(gru, form, shape, machine.device) for gru in (ours, theirs))
        pairs = ((found[key].double(), right[key]) for key in right)
        worst = max(((own - other).abs().max() / other.abs().max().clamp(min=1)).item() for own, other in pairs)
        row = {"precision": kind, "option": name, "form": form, "H": hidden, "B": batch, "difference": worst}
        yield row | {"bound": BOUNDS[kind], "right": worst <= BOUNDS[kind]}


def stress(machine: Machine) -> Iterator[Row]:
    """The same bits 200 times over, beside a stream that is busy: a lost arrival, or an early one, would show."""
    cases = [(16, 3)] if machine.is_dry else [(256, 64), (512, 64), (1024, 16), (1536, 16)]
    runs, steps, dtype = (2, 3, torch.float32) if machine.is_dry else (200, 1000, torch.bfloat16)
    for hidden, batch in cases:
        gru = fastgru.GRU(hidden, hidden, backend="triton", device=machine.device, dtype=dtype)
        x = torch.randn(steps, batch, hidden, device=machine.device, dtype=dtype, requires_grad=True)
        noise = torch.randn(64 if machine.is_dry else 4096, 64, device=machine.device)
        first: list[Tensor] = []
        different = 0
        for _ in range(runs):
            _busy(machine, noise)
            y, _ = gru(x)
            now = [y, *torch.autograd.grad(y, [x, *gru.parameters()], torch.ones_like(y))]
            first = first or now
            different += not all(map(torch.equal, first, now))
        yield {"H": hidden, "B": batch, "T": steps, "runs": runs, "different": different, "right": different == 0}


def _busy(machine: Machine, noise: Tensor) -> None:
    if machine.is_dry:
        return
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):
            noise @ noise.T


def memory(machine: Machine) -> Iterator[Row]:
    """Bytes kept for the backward pass, over those of input and output."""
    steps, batch, hidden = (3, 2, 16) if machine.is_dry else (1000, 32, 512)
    for mode in ("gates", "checkpoint"):
        gru = fastgru.GRU(hidden, hidden, memory=mode, backend="triton", device=machine.device)
        x = torch.randn(steps, batch, hidden, device=machine.device, requires_grad=True)
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor, to=kept: (to.append(tensor), tensor)[1], _same):
            y, _ = gru(x)
        own = {weight.data_ptr() for weight in gru.parameters()}
        total = sum(tensor.nbytes for tensor in kept if tensor.data_ptr() not in own)
        bound = x.nbytes + (y.nbytes if mode == "gates" else 0)
        yield {"memory": mode, "kept": total, "input and output": bound, "right": total == bound}


def _same(tensor: Tensor) -> Tensor:
    return tensor


def graphs(machine: Machine) -> Iterator[Row]:
    """A captured call replayed gives the bits of the call."""
    if machine.is_dry:
        return
    for hidden in (128, 512):
        gru = fastgru.GRU(hidden, hidden, backend="triton", device="cuda").eval()
        x = torch.randn(50, 16, hidden, device="cuda")
        fastgru.warm_up(gru, x)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad():
            with torch.cuda.graph(graph):
                captured, _ = gru(x)
            x.copy_(torch.randn_like(x))
            graph.replay()
            yield {"H": hidden, "right": torch.equal(captured, gru(x)[0])}


def timing(machine: Machine) -> Iterator[Row]:
    """Microseconds a step, forward and both passes, of plain layers beside cuDNN's, torchrl's and the Python loop."""
    sizes = [(128, 16), (128, 1024), (256, 16), (256, 64), (512, 16), (512, 64), (512, 256), (768, 16), (1024, 16)]
    steps = 3 if machine.is_dry else 1024
    for dtype, (hidden, batch) in itertools.product(machine.dtypes, [(16, 2)] if machine.is_dry else sizes):
        x = torch.randn(steps, batch, hidden, device=machine.device, dtype=dtype)
        made = {"device": machine.device, "dtype": dtype}
        theirs = torch.nn.GRU(hidden, hidden, **made)
        modules: dict[str, tuple[Any, Tensor]] = {
            "fastgru": (fastgru.GRU(hidden, hidden, backend="triton", **made), x),
            "nn.GRU": (theirs, x),
            "nn.LSTM": (torch.nn.LSTM(hidden, hidden, **made), x),
            "Python loop": (fastgru.GRU(hidden, hidden, backend="reference", **made), x[:64]),
        }
        modules["fastgru"][0].load_state_dict(theirs.state_dict())
        modules |= _torchrl(theirs, x)
        for passes, calls in _calls(modules).items():
            seconds = machine.seconds(calls)
            us = {name: seconds[name] * 1e6 / modules[name][1].size(0) for name in seconds}
            yield {"dtype": str(dtype)[6:], "H": hidden, "B": batch, "T": steps, "passes": passes} | us


def options(machine: Machine) -> Iterator[Row]:
    """What each option takes over the plain layer, forward, and what the Python loop takes."""
    for hidden in (16,) if machine.is_dry else (128, 512):
        steps, batch = (3, 2) if machine.is_dry else (512, 16)
        dtype = machine.dtypes[-1 if machine.is_dry else 1]
        x = torch.randn(steps, batch, hidden, device=machine.device, dtype=dtype)
        modules = {}
        for name, given in OPTIONS.items():
            gru = fastgru.GRU(hidden, hidden, backend="triton", device=machine.device, dtype=dtype, **given)
            modules[name] = (gru, x)
        loop = fastgru.GRU(hidden, hidden, backend="reference", device=machine.device, dtype=dtype, layer_norm=True)
        modules["Python loop, layer norm"] = (loop, x[:64])
        seconds = machine.seconds(_calls(modules)["forward"])
        us = {name: seconds[name] * 1e6 / modules[name][1].size(0) for name in seconds}
        yield {"dtype": str(dtype)[6:], "H": hidden, "B": batch, "T": steps} | us


def _calls(modules: dict[str, tuple[Any, Tensor]]) -> dict[str, dict[str, Call]]:
    """Each module's forward pass, and both; run once, so that all is compiled."""

    def forward(module: Any, x: Tensor) -> None:
        with torch.no_grad():
            module(x)

    def both(module: Any, x: Tensor) -> None:
        y = module(x)[0]
        torch.autograd.grad(y, [x, *module.parameters()], torch.ones_like(y))

    found: dict[str, dict[str, Call]] = {"forward": {}, "both": {}}
    for name, (module, x) in modules.items():
        leaf = x.detach().requires_grad_()
        for passes, call in (("forward", forward), ("both", both)):
            found[passes][name] = lambda call=call, module=module, leaf=leaf: call(module, leaf)  # type: ignore[misc]
            found[passes][name]()
    return found


def _torchrl(theirs: torch.nn.GRU, x: Tensor) -> dict[str, tuple[Any, Tensor]]:
    """torchrl's kernels, where it is installed and has them."""
    if not x.is_cuda or find_spec("torchrl") is None:
        return {}
    from tensordict import TensorDict
    from torchrl.modules import GRUModule, set_recurrent_mode

    if "recurrent_backend" not in inspect.signature(GRUModule.__init__).parameters:
        return {}
    keys = {"in_keys": ["x", "h", "is_init"], "out_keys": ["y", ("next", "h")]}
    inner = GRUModule(theirs.input_size, theirs.hidden_size, recurrent_backend="triton", device=x.device, **keys)
    size = [x.size(1), x.size(0)]
    h, never = x.new_zeros(*size, 1, theirs.hidden_size), torch.zeros(*size, 1, dtype=torch.bool, device=x.device)

    class Beside(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner.to(x.dtype)

        def forward(self, x: Tensor) -> tuple[Tensor]:
            with set_recurrent_mode(True):
                return (self.inner(TensorDict({"x": x.transpose(0, 1), "h": h, "is_init": never}, size))["y"],)

    return {"torchrl": (Beside(), x)}


PARTS: dict[str, Callable[..., Iterator[Row]]] = {
    "numerics": numerics,
    "stress": stress,
    "memory": memory,
    "graphs": graphs,
    "timing": timing,
    "options": options,
}
