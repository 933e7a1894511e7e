"""GRU: torch.nn's module of this name, on fastgru's backends; GRUCell stands in cell.py.

`GRU` extends `torch.nn.RNNBase`, which brings parameters, initialisation, state_dict, repr and checks; not
`torch.nn.GRU`, for torch.compile refuses every subclass of that.
"""

import inspect
import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, overload

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence

from fastgru import inputs, ops
from fastgru.backends import check_name
from fastgru.cell import GRUCell, KeepsStack
from fastgru.core.spec import GRUSpec, check_options, sizes_of_layers, whole
from fastgru.core.steps import PLAIN, Steps
from fastgru.core.torch_internals import tracing_state

__all__ = ["GRU", "OPTIONS", "GRUCell"]


class GRU(KeepsStack, torch.nn.RNNBase):
    """A stack of gated recurrent units over sequences, in place of `torch.nn.GRU`.

        r  = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z  = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n  = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    Args:
        input_size: I, the features of the input.
        hidden_size: H, the features of the state; or a sequence of them, one for each layer.
        num_layers: L, the layers of the stack; as many as hidden_size has, if that is a sequence.
        bias: without it there are no `b_i*` and `b_h*`.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; h0 and h_n do not change.
        dropout: the probability with which outputs between layers are zeroed in training.
        bidirectional: D = 2, a second GRU runs from the end to the start; its outputs and states come second.
        device, dtype: of the parameters.
        backend: who computes it: "auto", or a name that `fastgru.info()` lists.
        reset_after: False for `n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)`, the original cell.
        recurrent_dropout: the probability with which a unit of h is zeroed where h enters W_hh, in training: one mask a
            sequence, inverted scaling (Gal and Ghahramani 2016, arXiv:1512.05287).
        variational: `dropout` has one mask a sequence too.
        zoneout: the probability with which a unit keeps its state for a step, in training; in eval the mean,
            `h' = p * h + (1 - p) * h'` (Krueger et al. 2017, arXiv:1606.01305).
        weight_dropout: the probability with which an element of W_hh is zeroed for a whole call, in training (Merity et
            al. 2017, arXiv:1708.02182). These three are rounded to multiples of 2^-16.
        tbptt: k > 0: no gradient crosses from one stretch of k steps to the next; the state does.
        memory: what is kept for backward beside input and weights. "gates": the output and 4 H numbers a step;
            "recompute": the output, from which backward computes the rest anew, a window of steps at a time;
            "checkpoint": the states between windows of about sqrt(T) steps, and not the output. Gradients are the same.
        learn_initial_state: a parameter `initial_state`, shaped as hx without its B and zero at first, stands where no
            hx is given and where a sequence is reset.
        return_all_layers: the output is a list with the output of every layer.
        layer_norm: `W_i* x` and `W_h* h` are each normalised over all 3H rows and multiplied by a gain, before the
            biases are added (Ba et al. 2016, arXiv:1607.06450); not with reset_after=False.

    Parameters have torch's names, shapes and order (`weight_ih_l0 [3H, I]`, `weight_hh_l0 [3H, H]`, `bias_ih_l0 [3H]`,
    `bias_hh_l0 [3H]`, `..._l0_reverse`, ...), rows in the order r, z, n, so a state_dict goes both ways; they are drawn
    from U(-1/sqrt(H), 1/sqrt(H)) as in torch. With layer_norm each direction has `gain_ih_l0 [3H]` and
    `gain_hh_l0 [3H]` after these, which begin as 1.

    The output may be changed in place before backward, as torch.nn.GRU's on a CPU: backward then computes it once more.

    Under torch.autocast the output and h_n have autocast's dtype; on a CPU torch.nn.GRU's are float32 there.

    Raises what torch.nn.GRU raises, and ValueError for an unknown backend.
    Source: Cho et al. 2014, arXiv:1406.1078; by default in the reset-after form that cuDNN and torch compute.

    >>> import torch, fastgru
    >>> gru = fastgru.GRU(input_size=256, hidden_size=128, num_layers=2, batch_first=True, bidirectional=True)
    >>> output, h_n = gru(torch.randn(4, 10, 256), lengths=torch.tensor([7, 10, 0, 3]))
    >>> output.shape, h_n.shape
    (torch.Size([4, 10, 256]), torch.Size([4, 4, 128]))
    """

    torch_class = torch.nn.GRU

    hidden_size: int | tuple[int, ...]  # type: ignore[assignment]

    # Their defaults, those of __init__, stand on the class too: modules pickled by torch's rules may lack them.
    backend: str
    reset_after: bool
    recurrent_dropout: float
    variational: bool
    zoneout: float
    weight_dropout: float
    tbptt: int
    memory: str
    learn_initial_state: bool
    return_all_layers: bool
    layer_norm: bool

    _options_of = staticmethod(attrgetter(*GRUSpec._fields))  # its attributes have their names

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *places: Any,  # proj_size, device and dtype, as torch.nn.RNNBase has them
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        proj_size: None = None,
        backend: str = "auto",
        reset_after: bool = True,
        recurrent_dropout: float = 0.0,
        variational: bool = False,
        zoneout: float = 0.0,
        weight_dropout: float = 0.0,
        tbptt: int = 0,
        memory: str = "gates",
        learn_initial_state: bool = False,
        return_all_layers: bool = False,
        layer_norm: bool = False,
    ) -> None:
        options = {name: value for name, value in locals().items() if name in _OWN}
        check_name(backend)
        check_options(**options)
        input_size, hidden_size, num_layers = map(whole, (input_size, hidden_size, num_layers))
        sizes = sizes_of_layers(hidden_size, num_layers)
        if sizes is not None:
            hidden_size, num_layers = sizes[0], len(sizes)
        differ = sizes is not None and len(set(sizes)) > 1
        is_own = layer_norm or differ  # torch does not know such weights: made here
        if (device is not None and len(places) > 1) or (dtype is not None and len(places) > 2):
            raise TypeError("device or dtype is given twice, by its place and by its name")
        defaults: list[Any] = [0, device, dtype]
        filled = [*places, *defaults[len(places) :]]
        projection, device, dtype = filled[:3]
        super().__init__(
            "GRU",
            input_size,
            hidden_size,  # type: ignore[arg-type]
            1 if num_layers is None else num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            projection,
            "meta" if is_own else device,
            dtype,
            *filled[3:],  # too many are torch's to refuse
        )
        if proj_size is not None or self.proj_size:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if not isinstance(self.bidirectional, bool):  # torch.nn.GRU raises only when it is called
            raise TypeError(f"bidirectional should be of type bool, got: {type(self.bidirectional).__name__}")
        for name, value in options.items():
            setattr(self, name, value)
        if sizes is not None and differ:
            self.hidden_size = sizes
        if is_own:
            self._make_weights(device, dtype)
        if learn_initial_state:
            self.initial_state = torch.nn.Parameter(self.weights()[0].new_zeros(self.spec.states_shape()))

    def _make_weights(self, device: Any, dtype: torch.dtype | None) -> None:
        """Put weights of each layer's own sizes, and the gains, in the place of those that torch made."""
        shapes = iter(self.spec.weight_shapes)
        self._parameters.clear()
        for names in self._all_weights:
            if self.layer_norm:
                names += [names[side].replace("weight", "gain") for side in (0, 1)]
            for name in names:
                self._parameters[name] = torch.nn.Parameter(torch.empty(next(shapes), device=device, dtype=dtype))
        self._flat_weights_names = [name for names in self._all_weights for name in names]
        self._init_flat_weights()
        self.reset_parameters()

    def flatten_parameters(self) -> None:
        """Lay the weights out for cuDNN, as torch does, where it has such layers."""
        if not self.layer_norm and isinstance(self.hidden_size, int):
            torch.nn.RNNBase.flatten_parameters(self)  # by name: torchrl copies nn.GRU's methods to a class of its own

    def reset_parameters(self) -> None:
        """Draw the weights as torch does; gains begin as 1, an initial state to be learned as 0."""
        spec = self.spec
        bounds = [1 / math.sqrt(hidden) for hidden in spec.hidden_sizes for _ in range(spec.directions)]
        own = {name: bound for names, bound in zip(self._all_weights, bounds, strict=True) for name in names}
        for path, parameter in self.named_parameters():
            name = path.removeprefix("parametrizations.").split(".")[0]
            if name.startswith("gain_"):
                torch.nn.init.ones_(parameter)
            elif name == "initial_state":
                torch.nn.init.zeros_(parameter)
            else:
                bound = own.get(name, bounds[0])
                torch.nn.init.uniform_(parameter, -bound, bound)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Hold no weak references meanwhile: torch swaps no parameter that has one."""
        self._flat_weight_refs = []
        super(torch.nn.RNNBase, self)._load_from_state_dict(*args, **kwargs)  # RNNBase has none of its own
        self._init_flat_weights()

    @property
    def spec(self) -> GRUSpec:
        """Its options, as they are now."""
        fields = [getattr(self, name) for name in GRUSpec._fields]
        return GRUSpec(*fields) if is_compiling() else GRUSpec(*map(whole, fields))

    @overload
    def forward(
        self,
        input: Tensor,
        hx: Tensor | None = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        lengths: Tensor | None = None,  # not keyword-only: torch.onnx.export(dynamo=False) gives all by their places
        resets: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run the whole sequences.

        input: `[T, B, I]`, `[B, T, I]` with batch_first, `[T, I]` for one sequence, a PackedSequence, or a jagged
            nested tensor `[B, *, I]`.
        hx: the initial states `[L*D, B, H]`, `[L*D, H]` for one sequence; zeros where it is None. Where the layers' H
            differ, `[D, B, sum(H)]` or `[D, sum(H)]`: one layer's after the other's along the last dimension.
        lengths: `[B]` integer; sequence b has the first lengths[b] steps, in any order, 0 among them. Only these are
            computed. The output is zero beyond them, and what stands there in the input changes nothing.
        resets: `[T, B]` bool (`[B, T]` with batch_first, `[T]` for one sequence, `[N]` with cu_seqlens); where it is
            true the sequence starts anew: each direction runs each segment on its own, no gradient crosses from one to
            the other, and all start from zero, but for the one that hx enters (none, forward, if step 0 is reset).
        cu_seqlens: `[B + 1]` integer, from 0 to N; the input is then `[N, I]`, one sequence after the other, sequence b
            from row cu_seqlens[b] to cu_seqlens[b + 1].
        mask: `[B, T]`, whatever batch_first is, bool or integer, as tokenizers give it: another word for lengths. It is
            true (not 0) for the first steps of each sequence, and false for the rest.

        Returns the output, `[T, B, D*H]` in the form of the input, and the final states h_n in the form of hx: the
        state after each sequence's own last step, and hx where it has none.

        Raises ValueError where lengths, resets, cu_seqlens or mask do not fit the input or a mask has holes, TypeError
        where they are no tensors.
        """
        dimensions = 0 if isinstance(input, PackedSequence) else input.dim()
        if isinstance(input, PackedSequence):
            inputs.refuse_beside("a PackedSequence", lengths=lengths, resets=resets, cu_seqlens=cu_seqlens, mask=mask)
            outputs, h_n = inputs.run_packed(self._run, input, hx, self._stack().spec.states_shape)
        elif input.is_nested:
            inputs.refuse_beside("a nested tensor", lengths=lengths, resets=resets, cu_seqlens=cu_seqlens, mask=mask)
            outputs, h_n = inputs.run_nested(self._run, input, hx)
        elif cu_seqlens is not None:
            inputs.refuse_beside("cu_seqlens", lengths=lengths, mask=mask)
            outputs, h_n = inputs.run_concatenated(self._run, input, hx, cu_seqlens, resets)
        elif dimensions == 3:
            if mask is not None:
                inputs.refuse_beside("mask", lengths=lengths)
                lengths = inputs.lengths_of(mask, input, self.batch_first)
            outputs, h_n = inputs.run_padded(self._run, input, hx, self.batch_first, lengths, resets)
        elif dimensions == 2:
            inputs.refuse_beside("one sequence", lengths=lengths, mask=mask)
            outputs, h_n = inputs.run_one(self._run, input, hx, resets)
        else:
            raise ValueError(f"GRU: Expected input to be 2D or 3D, got {dimensions}D instead")
        return (outputs if self.return_all_layers else outputs[-1]), h_n  # type: ignore[return-value]

    def step(self, x_t: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run one step of a stream: in eval a chain of steps is forward over all of them.

        x_t: `[B, I]`, or `[I]` for one sequence.
        state: `[L, B, H]`, `[L, H]` for one sequence (`[1, B, sum(H)]`, `[1, sum(H)]` where the layers' H differ), as
            the step before returned it; None begins a stream, from zeros or from `initial_state`.

        Returns the output `[B, H]` or `[H]`, with return_all_layers those of all layers, and the next state. Neither
        argument is written to. It is differentiable as forward is; in training each step draws its masks anew.

        One or two sequences on a CPU, without gradients, take one native call, which allocates the two results alone.

        Raises ValueError for a bidirectional layer and where a shape does not fit, TypeError where x_t is no tensor.
        """
        if not isinstance(x_t, Tensor):
            raise TypeError(f"x_t must be a tensor [B, I] or [I], got a {type(x_t).__name__}")
        if x_t.dim() < 3 and self._is_steppable():
            start = self.initial_state if state is None and self.learn_initial_state else state
            if start is not state and x_t.dim() == 2:
                start = self.initial_state[:, None].expand(-1, x_t.size(0), -1)
            found = ops.step(self.num_layers, self._keep(), x_t, start, self.weights(), self._frozen)
            if found is not None:
                return found
        return self._step_as_sequence(x_t, state)

    def _step_as_sequence(self, x_t: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step as a sequence of one."""
        if self.bidirectional:
            raise ValueError("a bidirectional GRU has no step: its reverse direction begins at the end; call forward")
        if x_t.dim() not in (1, 2):
            raise ValueError(f"x_t must be [B, {self.input_size}] or [{self.input_size}], got {[*x_t.shape]}")
        if state is not None and state.dim() != x_t.dim() + 1:
            form = "[L, B, H] beside x_t [B, I]" if x_t.dim() == 2 else "[L, H] beside x_t [I]"
            raise ValueError(f"state must be {form}, got {[*state.shape]}")
        if x_t.dim() == 2:
            outputs, h_n = self._run(x_t[None], state, x_t.size(0), PLAIN)
            outputs = [y.squeeze(0) for y in outputs]
            return (outputs if self.return_all_layers else outputs[-1]), h_n  # type: ignore[return-value]
        outputs, h_n = self._run(x_t[None, None], None if state is None else state.unsqueeze(1), 1, PLAIN)
        outputs = [y.squeeze(0).squeeze(0) for y in outputs]
        return (outputs if self.return_all_layers else outputs[-1]), h_n.squeeze(1)  # type: ignore[return-value]

    def _is_steppable(self) -> bool:
        """Whether one step of it is `ops.step`'s: plain layers of one size, without noise."""
        noise = self.training and (self.dropout or self.recurrent_dropout or self.zoneout or self.weight_dropout)
        return (
            not noise
            and self.reset_after
            and not self.layer_norm
            and isinstance(self.hidden_size, int)
            and not self.bidirectional
            and not self.return_all_layers
            and self.backend in ("auto", "cpu")
        )

    def _keep(self) -> float:
        """`keep` of its Variant."""
        return 1.0 if self.training else 1.0 - self.zoneout

    def _run(self, x: Tensor, h0: Tensor | None, batch: int, steps: Steps) -> tuple[list[Tensor], Tensor]:
        """Time-major steps or rows, checked here once; torch's own checks are asked only for their words."""
        weights = self.weights()
        has_start = h0 is not None or not self.learn_initial_state
        is_written = tracing_state() is not None  # by torch.jit, which warns where a size decides
        is_step = steps is PLAIN and not is_written and x.shape[0] == 1
        if is_step and has_start and not is_compiling() and self._is_steppable():
            found = ops.step(self.num_layers, self._keep(), x, h0, weights, self._frozen)
            if found is not None:
                return [found[0]], found[1]
        stack = self._stack()
        dimensions = 3 if steps is PLAIN else 2 + steps.rows_dim
        fits = is_written or x.shape[-1] == self.input_size
        if x.dtype is not weights[0].dtype or x.dim() != dimensions or not fits:
            self._update_flat_weights()
            self.check_input(x, x if dimensions == 2 else None)
        if h0 is not None and not is_written and h0.shape != stack.spec.states_shape(batch):
            self.check_hidden_size(h0, stack.spec.states_shape(batch))  # type: ignore[arg-type]
        initial = None
        if self.learn_initial_state:
            initial = None if steps.resets is None else self.initial_state
            h0 = self.initial_state[:, None].expand(-1, batch, -1) if h0 is None else h0
        if is_step and self.backend in ("auto", "cpu") and not self.return_all_layers:
            trained = ops.trained_step(stack, x, h0, weights)
            if trained is not None:
                return [trained[0]], trained[1]
        return ops.gru(self.backend, stack, x, h0, weights, steps, initial, self.return_all_layers)

    def weights(self) -> list[Tensor]:
        """The weights as they are now, in torch's order: never `_flat_weights`, which must be brought up to date."""
        names = self._flat_weights_names
        parameters = self._parameters
        if list(parameters) == names:
            return list(parameters.values())  # type: ignore[arg-type]
        return [getattr(self, name) for name in names]


_PARAMETERS = inspect.signature(GRU.__init__).parameters
_OWN = [*_PARAMETERS][[*_PARAMETERS].index("backend") :]  # torch.nn.GRU has none of them
OPTIONS = tuple(name for name in _OWN if name != "backend")
GRU.own_options = OPTIONS
GRU.__init__.__qualname__ = "RNNBase.__init__"  # as Python's errors name torch.nn.GRU's
for _name in _OWN:
    setattr(GRU, _name, _PARAMETERS[_name].default)
