"""GRUCell: torch.nn's module of this name, on fastgru's backends; and what it has in common with GRU."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from fastgru import ops
from fastgru.backends import check_name
from fastgru.backends.cpu import packed_weights
from fastgru.core.spec import GRUSpec, check_options, whole
from fastgru.core.stack import Stack, stack_of
from fastgru.ops.counters import enter_tables

_WEIGHTS = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
_GAINS = ["gain_ih", "gain_hh"]
_OPTIONS = ("reset_after", "recurrent_dropout", "zoneout", "layer_norm")
OWN_STATE = frozenset(("_kept", "_frozen", "_low"))  # what is of one module, and of no copy of it
_fields_of = attrgetter("input_size", "hidden_size", "bias", *_OPTIONS)


class KeepsStack:
    """What GRU and GRUCell have in common: their description, as a backend sees it, is kept from call to call.

    own_options: those of its options that torch's module of the same name does not have.
    """

    backend: str
    torch_class: type[torch.nn.Module]
    own_options: tuple[str, ...]

    _kept: tuple[tuple[Any, ...], Stack] | None = None  # the options that it last ran with, and their description
    _frozen: list[Any] | None = None  # each layer's PackedWeights, which trust its weights (`fastgru.freeze`)

    @property
    def spec(self) -> GRUSpec:
        """Its options, as they are now."""
        raise NotImplementedError

    _options_of: Callable[[Any], tuple[Any, ...]]  # from a module: what its description depends on

    def _stack(self) -> Stack:
        """Its description; made anew where an option has changed."""
        if is_compiling():
            return stack_of(self.spec)
        options = self._options_of(self)
        kept = self._kept
        if kept is not None and kept[0] == options:
            return kept[1]
        spec = self.spec
        packed = packed_weights(spec.num_layers) if kept is None else kept[1].packed
        stack = stack_of(spec, packed if self._frozen is None else self._frozen)
        self.__dict__["_kept"] = options, stack
        return stack

    def train(self, mode: bool = True) -> Any:
        """torch's; a frozen layer stays in eval."""
        return super().train(mode and self._frozen is None)  # type: ignore[misc]

    def changed_options(self) -> dict[str, Any]:
        """Its own options that are not the defaults, which stand on its class."""
        given = {name: getattr(self, name) for name in self.own_options}
        return {name: value for name, value in given.items() if value != getattr(type(self), name)}

    def extra_repr(self) -> str:
        """torch's, and our own options where they are not the defaults."""
        shown: str = super().extra_repr()  # type: ignore[misc]
        if self.backend != "auto":
            shown += f", backend={self.backend!r}"
        return shown + "".join(f", {name}={value}" for name, value in self.changed_options().items())

    def why_not_torch(self) -> str | None:
        """Why torch's module of the same name cannot stand for it, in words; None where it can."""
        for name, value in self.changed_options().items():
            return f"it has {name}={value}, a form that torch.nn does not have"
        sizes = getattr(self, "hidden_size", None)
        if isinstance(sizes, tuple):
            return f"it has hidden_size={sizes}, one for each layer, which torch.nn does not have"
        return None

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """What torch.jit.script compiles in its place: torch's module of the same name, with the same parameters.

        Raises RuntimeError where torch has no such layer.
        """
        reason = self.why_not_torch()
        if reason is not None:
            raise RuntimeError(f"{type(self).__name__} cannot be scripted: {reason}")
        return self.as_torch()

    def as_torch(self) -> torch.nn.Module:
        """torch's module of the same name, with the same parameters, buffers and hooks, and without our options."""
        own = {"backend", *OWN_STATE, *self.own_options}
        twin = self.torch_class.__new__(self.torch_class)
        twin.__dict__ = {name: value for name, value in vars(self).items() if name not in own}
        return twin

    def apply(self, fn: Callable[[torch.nn.Module], object]) -> Any:
        """torch's. Counters of FLOPs come this way, to look a module's class up in their tables."""
        kind = type(self)
        if "torch_class" in vars(kind):  # not a class derived from ours: torch's own do not count those derived from it
            enter_tables(kind, self.torch_class)
        return super().apply(fn)  # type: ignore[misc]

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: without what is kept for this very module, so that no copy is frozen."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {name: value for name, value in state.items() if name not in OWN_STATE}


class GRUCell(KeepsStack, torch.nn.RNNCellBase):
    """One step of a GRU, in place of `torch.nn.GRUCell`: the equations of `GRU` for one layer.

    Args:
        input_size: I, the features of the input.
        hidden_size: H, the features of the state.
        bias: without it there are no `bias_ih` and `bias_hh`.
        device, dtype: of the parameters.
        backend: who computes it: "auto", or a name that `fastgru.info()` lists.
        reset_after, recurrent_dropout, zoneout, layer_norm: as of `GRU`. In training each step draws its masks anew.

    Parameters as in torch: `weight_ih [3H, I]`, `weight_hh [3H, H]`, `bias_ih [3H]`, `bias_hh [3H]`; with layer_norm
    the gains `gain_ih [3H]` and `gain_hh [3H]`, which begin as 1.
    Raises what torch.nn.GRUCell raises, and ValueError for an unknown backend or an option that is none.

    >>> import torch, fastgru
    >>> cell, state = fastgru.GRUCell(input_size=10, hidden_size=20), torch.zeros(3, 20)
    >>> for x_t in torch.randn(6, 3, 10):
    ...     state = cell(x_t, state)
    >>> state.shape
    torch.Size([3, 20])
    """

    torch_class = torch.nn.GRUCell
    own_options = _OPTIONS

    # Their defaults stand on the class too: modules pickled by torch's rules may lack them.
    backend: str = "auto"
    reset_after: bool = True
    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    layer_norm: bool = False

    @staticmethod
    def _options_of(cell: Any) -> tuple[Any, ...]:
        """Its options; whether it is in training matters to masks alone."""
        return (*_fields_of(cell), cell._is_masked())

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "auto",
        reset_after: bool = True,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        check_name(backend)
        options = {name: value for name, value in locals().items() if name in _OPTIONS}
        check_options(**options, weight_dropout=0.0, tbptt=0, memory="gates")
        super().__init__(whole(input_size), whole(hidden_size), bias, num_chunks=3, device=device, dtype=dtype)
        self.backend = backend
        for name, value in options.items():
            setattr(self, name, value)
        if layer_norm:
            for name in _GAINS:
                self.register_parameter(name, torch.nn.Parameter(torch.ones_like(self.weight_ih[:, 0])))

    def reset_parameters(self) -> None:
        """Draw the weights as torch does; gains begin as 1."""
        super().reset_parameters()
        for name in _GAINS:
            if self._parameters.get(name) is not None:
                torch.nn.init.ones_(getattr(self, name))

    @property
    def spec(self) -> GRUSpec:
        """Its options, as they are now."""
        return GRUSpec(
            self.input_size if is_compiling() else whole(self.input_size),
            self.hidden_size if is_compiling() else whole(self.hidden_size),
            bias=self.bias,
            training=self._is_masked(),
            reset_after=self.reset_after,
            recurrent_dropout=self.recurrent_dropout,
            zoneout=self.zoneout,
            layer_norm=self.layer_norm,
        )

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """One step.

        input: `[B, I]` or `[I]`; hx: the state `[B, H]` or `[H]`, zeros where it is None.
        Returns the next state in the form of the input.
        """
        weights, stack, dimensions = self._weights(), self._stack(), input.dim()
        if self.backend in ("auto", "cpu"):  # these take nothing that is to be refused
            found: Tensor | None = ops.trained_step(stack, input, hx, weights, is_cell=True)
            if found is None and self.reset_after and not (self.layer_norm or stack.is_noisy):
                found = ops.cell_step(stack.variant.keep, input, hx, weights, self._frozen)
            if found is not None:
                return found
        if dimensions not in (1, 2):
            raise ValueError(f"GRUCell: Expected input to be 1D or 2D, got {dimensions}D instead")
        if hx is not None and hx.dim() not in (1, 2):
            raise ValueError(f"GRUCell: Expected hidden to be 1D or 2D, got {hx.dim()}D instead")
        is_batched = dimensions == 2
        x = input if is_batched else input.unsqueeze(0)
        if hx is None:
            h = torch.zeros(x.size(0), self.hidden_size, dtype=x.dtype, device=x.device)  # dense, though x were sparse
        else:
            h = hx if is_batched else hx.unsqueeze(0)
        h = ops.cell(self.backend, stack, x, h, weights)
        return h if is_batched else h.squeeze(0)

    def _is_masked(self) -> bool:
        """Whether a step draws masks; without the options for it nobody asks for the mode."""
        return bool(self.zoneout or self.recurrent_dropout) and self.training

    def _weights(self) -> list[Tensor]:
        """The weights as they are now; a look at the parameters takes a tenth of the attributes' time."""
        parameters = self._parameters
        if self.bias and list(parameters) == _WEIGHTS:
            return list(parameters.values())  # type: ignore[arg-type]
        return [getattr(self, name) for name in self._names()]

    def _names(self) -> list[str]:
        """Of its weights, in order."""
        return (_WEIGHTS if self.bias else _WEIGHTS[:2]) + (_GAINS if self.layer_norm else [])
