"""A layer case's tensors, its call, and the same call of the definition."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

import fastgru
from fastgru.core import reference
from fastgru.core.stack import run_layers, stack_of
from fuzz.edits import edit
from fuzz.forms import Form
from fuzz.guard import guarded
from fuzz.layer_case import LayerCase
from fuzz.views import CHANGING, VIEWS

Leaves = dict[str, Tensor]
Found = dict[str, Tensor]  # y or y0, y1, ..; h_n; and where gradients are wanted dx, dh0 and those of the weights
Outputs = tuple[list[Tensor], Tensor]


class Trial:
    """A layer and an input of a case. The leaves are what it can be differentiated for: x, h0 and the weights."""

    def __init__(self, case: LayerCase) -> None:
        self.case = case
        self.rng = Random(case.draws)
        self.generator = torch.Generator().manual_seed(case.draws)
        self.dtype: torch.dtype = getattr(torch, case.dtype)
        self.lowered: torch.dtype | None = getattr(torch, case.autocast) if case.autocast else None
        self.precision = self.lowered or self.dtype
        self.form = Form(case, self.generator)
        self.form.given = {name: self._guarded(tensor) for name, tensor in self.form.given.items()}
        self.layer = self._make()
        self.x, self.h0 = self._make_x(), self._make_h0()
        self.problems: list[str] = []
        for number, leaf in enumerate(self.leaves().values()):
            leaf.requires_grad_(number not in case.unwanted)

    def _make(self) -> torch.nn.Module:
        """The layer, its weights as the case has them."""
        case = self.case
        if case.entry == "cell":
            layer: Any = fastgru.GRUCell(case.I, case.H, **case.options, dtype=self.dtype, backend=case.backend)
        else:
            layer = fastgru.GRU(case.I, case.H, **case.options, dtype=self.dtype, backend=case.backend)
        for name, weight in [*layer.named_parameters()]:
            drawn = self._drawn(weight.shape)
            if name.startswith("gain"):
                drawn = 1 + 0.3 * drawn
            elif name != "initial_state":
                drawn *= case.scale * 0.6 * (3 / weight.size(0)) ** 0.5
            setattr(layer, name, torch.nn.Parameter(self._seen("weights", drawn.to(self.dtype))))
        return layer.train(case.training)

    def _make_x(self) -> Tensor:
        case, form = self.case, self.form
        drawn = self._drawn((case.T, case.B, case.I))
        if case.poisoned and form.steps.lengths is not None and case.views["x"] not in CHANGING:
            drawn[torch.arange(case.T)[:, None] >= form.steps.lengths] = torch.nan
        dtype = self.lowered if self.lowered and case.draws % 2 else self.dtype
        raw = form.raw(drawn)
        return self._seen("x", (raw.squeeze(0) if case.entry == "cell" else raw).to(dtype).contiguous())

    def _make_h0(self) -> Tensor | None:
        case = self.case
        if not case.with_h0:
            return None
        shape = (1, case.B, case.H) if case.entry == "cell" else self.layer.spec.states_shape(case.B)
        h0 = self.form.states(self._drawn(shape))
        return self._seen("h0", (h0.squeeze(0) if case.entry == "cell" else h0).to(self.dtype).contiguous())

    def _drawn(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.generator, dtype=torch.float64)

    def _seen(self, name: str, tensor: Tensor) -> Tensor:
        """In the layout that the case has for it."""
        tensor = tensor if tensor.dim() == 0 else VIEWS[self.case.views[name]](tensor)
        return self._guarded(tensor).detach()

    def _guarded(self, tensor: Tensor) -> Tensor:
        return guarded(self.rng, tensor) if self.case.guarded else tensor

    def leaves(self) -> Leaves:
        """The tensors as they are now."""
        states = {} if self.h0 is None else {"h0": self.h0}
        return {"x": self.x, **states, **dict(self.layer.named_parameters())}

    def numbers(self) -> Leaves:
        """What they hold, as the layer sees it, in float64."""
        return {name: leaf.detach().to(self.precision).double() for name, leaf in self.leaves().items()}

    def dtype_of(self, name: str) -> torch.dtype:
        """Of an output or a gradient."""
        return self.leaves()[name[1:]].dtype if name.startswith("d") else self.precision

    def edit(self, kind: str) -> None:
        """Change weights."""
        edit(self.layer, kind, self.rng)

    def ours(self, number: int) -> Found:
        """What fastgru makes of it, in call `number`; what is wrong with it besides goes to `problems`."""
        case, leaves = self.case, self.leaves()
        modes = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
        cast = torch.autocast("cpu", dtype=self.lowered) if self.lowered else nullcontext()
        context: AbstractContextManager[object] = modes[case.mode]()
        with context, cast:
            torch.manual_seed(case.draws + number)
            outputs = self._run(self.layer, self.x, self.h0)
        named = self._named(outputs)
        gradients = self._gradients(named, leaves, number, again=case.twice)
        return {name: tensor.detach() for name, tensor in named.items()} | gradients

    def exact(self, number: int, numbers: Leaves) -> Found:
        """What the definition makes of such leaves, in float64."""
        wanted = {name: leaf.requires_grad for name, leaf in self.leaves().items()}
        leaves = {name: tensor.clone().requires_grad_(wanted[name]) for name, tensor in numbers.items()}
        with torch.set_grad_enabled(self.case.mode == "grad"):
            named = self._named(self._defined(leaves, self.case.draws + number))
        gradients = self._gradients(named, leaves, number, again=False)
        return {name: tensor.detach() for name, tensor in named.items()} | gradients

    def _run(self, layer: Any, x: Tensor, h0: Tensor | None) -> Outputs:
        if self.case.entry == "cell":
            return [], layer(x, h0)
        if self.case.entry == "forward":
            return self.form.call(layer, x, h0)
        steps, state = [], h0
        for x_t in x:
            y_t, state = layer.step(x_t, state)
            steps.append(y_t if self.case.options.get("return_all_layers") else [y_t])
        assert state is not None
        return [torch.stack(each) for each in zip(*steps, strict=True)], state

    def _defined(self, leaves: Leaves, seed: int) -> Outputs:
        weights = dict(leaves)
        x, h0 = weights.pop("x"), weights.pop("h0", None)
        case, form = self.case, self.form
        if case.entry == "cell":
            one = x.dim() == 1
            h = torch.zeros(*x.shape[:-1], case.H, dtype=x.dtype) if h0 is None else h0
            found = reference.gru_cell(x[None] if one else x, h[None] if one else h, *weights.values())
            return [], found[0] if one else found
        if case.is_noisy and form.places is not None:  # masks are drawn for rows then, not for padded steps
            options = {**case.options, "memory": "gates", "backend": "reference", "dtype": torch.float64}
            twin = fastgru.GRU(case.I, case.H, **options).train()
            torch.manual_seed(seed)
            return form.call(lambda x, h0, **steps: functional_call(twin, weights, (x, h0), steps), x, h0)
        start = None if h0 is None else form.canonical_states(h0)
        initial = weights.pop("initial_state", None)
        if start is None and initial is not None:
            start = initial[:, None].expand(-1, case.B, -1)
        torch.manual_seed(seed)
        spec = self.layer.spec
        outputs, h_n = run_layers(
            reference.layer, stack_of(spec), form.canonical(x), start, initial, [*weights.values()], form.steps
        )
        shown = outputs if case.options.get("return_all_layers") else outputs[-1:]
        return [form.raw(y) for y in shown], form.states(h_n)

    def _named(self, outputs: Outputs) -> Found:
        ys, h_n = outputs
        names = ["y"] if len(ys) == 1 else [f"y{i}" for i in range(len(ys))]
        return {**dict(zip(names, ys, strict=True)), "h_n": h_n}

    def _gradients(self, outputs: Found, leaves: Leaves, number: int, again: bool) -> Found:
        """Of the leaves that want one, for random cotangents, which are the same numbers for whoever asks."""
        case = self.case
        wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
        if case.mode != "grad" or not wanted:
            if any(output.requires_grad for output in outputs.values()):
                self.problems.append("an output wants a gradient that nobody else does")
            return {}
        generator = torch.Generator().manual_seed(case.draws + number)
        differentiated, cotangents = [], []
        for name, output in outputs.items():
            drawn = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(self.precision)
            if case.cotangents in ("both", name[:1], name) or case.entry == "cell":
                view = case.views["dh_n" if name == "h_n" else "dy"]
                seen = VIEWS[view](drawn) if drawn.dim() else drawn
                if output.requires_grad:
                    differentiated.append(output)
                    cotangents.append(seen.to(output.dtype))
        if not differentiated:
            return {f"d{name}": torch.zeros_like(leaf) for name, leaf in wanted.items()}

        def run() -> tuple[Tensor, ...]:
            return torch.autograd.grad(
                differentiated, [*wanted.values()], cotangents, retain_graph=True, materialize_grads=True
            )

        found = run()
        if again and not all(map(torch.equal, found, run())):
            self.problems.append("a second backward gives other gradients")
        return {f"d{name}": gradient for name, gradient in zip(wanted, found, strict=True)}
