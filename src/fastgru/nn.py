"""GRU and GRUCell: torch.nn's modules of these names, on fastgru's backends.

`GRU` extends `torch.nn.RNNBase`, which brings parameters, initialisation, state_dict, repr and checks; not
`torch.nn.GRU`, for torch.compile refuses every subclass of that.
"""

import math
from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence

from fastgru import ops
from fastgru.arguments import one_size
from fastgru.backends import check_name
from fastgru.core.reference import NORM_NEEDS_RESET_AFTER
from fastgru.core.spec import MEMORIES, GRUSpec
from fastgru.core.steps import PLAIN, Steps


class GRU(torch.nn.RNNBase):
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

    Backward needs the output: where a gradient is wanted, changing it in place makes backward raise, as it does for
    torch.nn.LSTM and for torch.nn.GRU on a GPU (torch.nn.GRU on a CPU allows it).

    Under torch.autocast the output and h_n have autocast's dtype; on a CPU torch.nn.GRU's are float32 there.

    Raises what torch.nn.GRU raises, and ValueError for an unknown backend.
    Source: Cho et al. 2014, arXiv:1406.1078; by default in the reset-after form that cuDNN and torch compute.
    """

    hidden_size: int | tuple[int, ...]  # type: ignore[assignment]

    # On the class too: modules pickled by torch.nn.RNNBase's rules may lack them.
    backend: str = "auto"
    reset_after: bool = True
    recurrent_dropout: float = 0.0
    variational: bool = False
    zoneout: float = 0.0
    weight_dropout: float = 0.0
    tbptt: int = 0
    memory: str = "gates"
    learn_initial_state: bool = False
    return_all_layers: bool = False
    layer_norm: bool = False

    @overload
    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
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
    ) -> None: ...

    @overload
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __init__(
        self,
        *args: Any,
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
        **kwargs: Any,
    ) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        check_name(backend)
        _check_probabilities(recurrent_dropout=recurrent_dropout, zoneout=zoneout, weight_dropout=weight_dropout)
        if not isinstance(tbptt, int) or tbptt < 0:
            raise ValueError(f"tbptt must be a number of steps, or 0 for all of them, got {tbptt!r}")
        if memory not in MEMORIES:
            raise ValueError(f"memory must be one of {', '.join(map(repr, MEMORIES))}, got {memory!r}")
        if layer_norm and not reset_after:
            raise ValueError(NORM_NEEDS_RESET_AFTER)
        sizes, args, kwargs = one_size(args, kwargs)
        is_own = layer_norm or sizes is not None  # torch does not know such weights: made here
        super().__init__("GRU", *args, **(kwargs | {"device": "meta"} if is_own else kwargs))
        if not isinstance(self.bidirectional, bool):  # torch.nn.GRU raises only when it is called
            raise TypeError(f"bidirectional should be of type bool, got: {type(self.bidirectional).__name__}")
        self.backend = backend
        self.reset_after = reset_after
        self.recurrent_dropout = recurrent_dropout
        self.variational = variational
        self.zoneout = zoneout
        self.weight_dropout = weight_dropout
        self.tbptt = tbptt
        self.memory = memory
        self.learn_initial_state = learn_initial_state
        self.return_all_layers = return_all_layers
        self.layer_norm = layer_norm
        if sizes is not None:
            self.hidden_size = sizes
        if is_own:
            self._make_weights(kwargs.get("device"), kwargs.get("dtype"))
        if learn_initial_state:
            self.initial_state = torch.nn.Parameter(self.weights()[0].new_zeros(self._spec().states_shape()))

    def _make_weights(self, device: Any, dtype: torch.dtype | None) -> None:
        """Put weights of each layer's own sizes, and the gains, in the place of those that torch made."""
        shapes = iter(self._spec().weight_shapes)
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
            super().flatten_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as torch does; gains begin as 1, an initial state to be learned as 0."""
        spec = self._spec()
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
        super()._load_from_state_dict(*args, **kwargs)
        self._init_flat_weights()

    @property
    def spec(self) -> GRUSpec:
        """This layer as a backend sees it, at this moment."""
        return self._spec()

    def _spec(self) -> GRUSpec:
        """`spec`, for forward: of an attribute missing inside a property, torch says that the property is missing."""
        return GRUSpec(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.bias,
            self.bidirectional,
            self.dropout,
            self.training,
            self.reset_after,
            self.recurrent_dropout,
            self.variational,
            self.zoneout,
            self.weight_dropout,
            self.tbptt,
            self.layer_norm,
            self.memory,
        )

    @overload
    def forward(
        self,
        input: Tensor,
        hx: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
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

        Returns the output, `[T, B, D*H]` in the form of the input, and the final states h_n in the form of hx: the
        state after each sequence's own last step, and hx where it has none.

        Raises ValueError where lengths, resets or cu_seqlens do not fit the input, TypeError where they are no tensors.
        """
        if isinstance(input, PackedSequence):
            _refuse("a PackedSequence", lengths=lengths, resets=resets, cu_seqlens=cu_seqlens)
            return self._forward_packed(input, hx)
        dimensions = input.dim()
        if input.is_nested:
            _refuse("a nested tensor", lengths=lengths, resets=resets, cu_seqlens=cu_seqlens)
            return self._forward_nested(input, hx)
        if cu_seqlens is not None:
            _refuse("cu_seqlens", lengths=lengths)
            return self._forward_rows(input, hx, cu_seqlens, resets)
        if dimensions == 2:
            _refuse("one sequence", lengths=lengths)
            return self._forward_one(input, hx, resets)
        if dimensions != 3:
            raise ValueError(f"GRU: Expected input to be 2D or 3D, got {dimensions}D instead")
        if hx is not None and hx.dim() != 3:
            raise RuntimeError(f"For batched 3-D input, hx should also be 3-D but got {hx.dim()}-D tensor")
        steps = PLAIN
        if lengths is not None or resets is not None:
            batch = input.size(0 if self.batch_first else 1)
            _check("lengths", lengths, (batch,), _INTEGERS)
            _check("resets", resets, input.shape[:2], (torch.bool,))
            steps = Steps(lengths=lengths, resets=resets if resets is None or not self.batch_first else resets.mT)
        if self.batch_first:
            outputs, h_n = self._run(input.transpose(0, 1), hx, input.shape[0], steps)
            return self._shown([y.transpose(0, 1) for y in outputs]), h_n
        outputs, h_n = self._run(input, hx, input.shape[1], steps)
        return self._shown(outputs), h_n

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
            found = ops.step(self.num_layers, self._keep(), x_t, start, self.weights())
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
            return self._shown([y.squeeze(0) for y in outputs]), h_n
        outputs, h_n = self._run(x_t[None, None], None if state is None else state.unsqueeze(1), 1, PLAIN)
        return self._shown([y.squeeze(0).squeeze(0) for y in outputs]), h_n.squeeze(1)

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

    def _forward_one(self, input: Tensor, hx: Tensor | None, resets: Tensor | None) -> tuple[Tensor, Tensor]:
        """One sequence [T, I]: a batch of one."""
        if hx is not None:
            if hx.dim() != 2:
                raise RuntimeError(f"For unbatched 2-D input, hx should also be 2-D but got {hx.dim()}-D tensor")
            hx = hx.unsqueeze(1)
        _check("resets", resets, input.shape[:1], (torch.bool,))
        steps = PLAIN if resets is None else Steps(resets=resets.unsqueeze(1))
        outputs, h_n = self._run(input.unsqueeze(1), hx, 1, steps)
        return self._shown([y.squeeze(1) for y in outputs]), h_n.squeeze(1)

    def _forward_rows(
        self, input: Tensor, hx: Tensor | None, cu_seqlens: Tensor, resets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Sequences one after the other [N, I]."""
        if input.dim() != 2:
            raise ValueError(f"with cu_seqlens the input must be [N, I], got {[*input.shape]}")
        _check_kind("cu_seqlens", cu_seqlens)
        if cu_seqlens.dim() != 1 or cu_seqlens.size(0) == 0 or cu_seqlens.dtype not in _INTEGERS:
            raise ValueError(f"cu_seqlens must be [B + 1] int64 or int32, got {_described(cu_seqlens)}")
        _check("resets", resets, input.shape[:1], (torch.bool,))
        outputs, h_n = self._run(input, hx, cu_seqlens.size(0) - 1, Steps(offsets=cu_seqlens, resets=resets))
        return self._shown(outputs), h_n

    def _forward_nested(self, input: Tensor, hx: Tensor | None) -> tuple[Tensor, Tensor]:
        """A jagged nested tensor: sequences one after the other."""
        if input.layout is not torch.jagged or input.dim() != 3 or input._ragged_idx != 1:  # type: ignore[attr-defined]
            raise ValueError("a nested input must be [B, *, I] in layout torch.jagged, its second dimension ragged")
        if input.lengths() is not None:  # type: ignore[attr-defined]
            raise ValueError("a nested input must have no holes; call contiguous() on it")
        offsets = input.offsets()  # type: ignore[attr-defined]
        outputs, h_n = self._run(input.values(), hx, offsets.size(0) - 1, Steps(offsets=offsets))
        return self._shown([torch.nested.nested_tensor_from_jagged(y, offsets) for y in outputs]), h_n

    def _forward_packed(self, input: PackedSequence, hx: Tensor | None) -> tuple[PackedSequence, Tensor]:
        x, batch_sizes, sorted_indices, unsorted_indices = input
        compiling = torch.compiler.is_compiling()  # a compiler knows a batch by a tensor's size, not by its value
        if compiling and hx is None and sorted_indices is not None:
            hx = x.new_zeros(self.spec.states_shape(sorted_indices.size(0)))
        h0 = None if hx is None else self.permute_hidden(hx, sorted_indices)
        batch = h0.size(1) if compiling and h0 is not None else int(batch_sizes[0])
        outputs, h_n = self._run(x, h0, batch, Steps(batch_sizes))
        h_n = self.permute_hidden(h_n, unsorted_indices)
        return self._shown([PackedSequence(y, batch_sizes, sorted_indices, unsorted_indices) for y in outputs]), h_n

    def _shown(self, outputs: list[Any]) -> Any:
        """What forward returns of the layers' outputs."""
        return outputs if self.return_all_layers else outputs[-1]

    def _run(self, x: Tensor, h0: Tensor | None, batch: int, steps: Steps) -> tuple[list[Tensor], Tensor]:
        """Time-major steps or rows, checked here once; torch's own checks are asked only for their words."""
        weights = self.weights()
        has_start = h0 is not None or not self.learn_initial_state
        if steps is PLAIN and not is_compiling() and x.shape[0] == 1 and has_start and self._is_steppable():
            found = ops.step(self.num_layers, self._keep(), x, h0, weights)
            if found is not None:
                return [found[0]], found[1]
        spec = self._spec()
        if x.dtype is not weights[0].dtype or x.dim() != 2 + steps.rows_dim or x.shape[-1] != self.input_size:
            self._update_flat_weights()
            self.check_input(x, x if steps.rows_dim == 0 else None)
        if h0 is not None and h0.shape != spec.states_shape(batch):
            self.check_hidden_size(h0, spec.states_shape(batch))  # type: ignore[arg-type]
        initial = None
        if self.learn_initial_state:
            initial = None if steps.resets is None else self.initial_state
            h0 = self.initial_state[:, None].expand(-1, batch, -1) if h0 is None else h0
        return ops.gru(self.backend, spec, x, h0, weights, steps, initial, self.return_all_layers)

    def weights(self) -> list[Tensor]:
        """The weights as they are now, in torch's order: never `_flat_weights`, which must be brought up to date."""
        names = self._flat_weights_names
        parameters = self._parameters
        if list(parameters) == names:
            return list(parameters.values())  # type: ignore[arg-type]
        return [getattr(self, name) for name in names]

    def extra_repr(self) -> str:
        """torch's, and our own options where they are not the defaults."""
        options = "" if self.backend == "auto" else f", backend={self.backend!r}"
        for name in OPTIONS:
            if (given := getattr(self, name)) != getattr(GRU, name):
                options += f", {name}={given}"
        return super().extra_repr() + options


OPTIONS = (  # of GRU alone: torch.nn.GRU has none of them
    "reset_after",
    "recurrent_dropout",
    "variational",
    "zoneout",
    "weight_dropout",
    "tbptt",
    "memory",
    "learn_initial_state",
    "return_all_layers",
    "layer_norm",
)


def _check_probabilities(**given: float) -> None:
    for name, p in given.items():
        if not isinstance(p, int | float) or isinstance(p, bool) or not 0 <= p <= 1:
            raise ValueError(f"{name} must be a probability from 0 to 1, got {p!r}")


_INTEGERS = (torch.int64, torch.int32)


def _refuse(what: str, **others: Tensor | None) -> None:
    """Raise ValueError where an argument is given that says what the input itself says already."""
    for name, given in others.items():
        if given is not None:
            raise ValueError(f"{name} cannot be given together with {what}; leave one of them out")


def _check(name: str, given: Tensor | None, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
    """Raise ValueError where a tensor that is given has not this shape and one of these dtypes."""
    if given is None:
        return
    _check_kind(name, given)
    if given.shape != shape or given.dtype not in dtypes:
        kinds = " or ".join(str(dtype).replace("torch.", "") for dtype in dtypes)
        raise ValueError(f"{name} must be {[*shape]} {kinds} for this input, got {_described(given)}")


def _check_kind(name: str, given: object) -> None:
    if not isinstance(given, Tensor):
        raise TypeError(f"{name} must be a tensor, got a {type(given).__name__}; torch.tensor({name}) makes one of it")


def _described(tensor: Tensor) -> str:
    return f"{[*tensor.shape]} {tensor.dtype}".replace("torch.", "")


_CELL_WEIGHTS = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


class GRUCell(torch.nn.RNNCellBase):
    """One step of a GRU, in place of `torch.nn.GRUCell`: the equations of `GRU` for one layer.

    Args:
        input_size: I, the features of the input.
        hidden_size: H, the features of the state.
        bias: without it there are no `bias_ih` and `bias_hh`.
        device, dtype: of the parameters.
        backend: who computes it: "auto", or a name that `fastgru.info()` lists.

    Parameters as in torch: `weight_ih [3H, I]`, `weight_hh [3H, H]`, `bias_ih [3H]`, `bias_hh [3H]`.
    Raises what torch.nn.GRUCell raises, and ValueError for an unknown backend.
    """

    backend: str = "auto"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "auto",
    ) -> None:
        check_name(backend)
        super().__init__(input_size, hidden_size, bias, num_chunks=3, device=device, dtype=dtype)
        self.backend = backend

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """One step.

        input: `[B, I]` or `[I]`; hx: the state `[B, H]` or `[H]`, zeros where it is None.
        Returns the next state in the form of the input.
        """
        if input.dim() not in (1, 2):
            raise ValueError(f"GRUCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if hx is not None and hx.dim() not in (1, 2):
            raise ValueError(f"GRUCell: Expected hidden to be 1D or 2D, got {hx.dim()}D instead")
        weights = self._weights()
        if self.backend in ("auto", "cpu"):
            found = ops.cell_step(input, hx, weights)
            if found is not None:
                return found
        is_batched = input.dim() == 2
        x = input if is_batched else input.unsqueeze(0)
        if hx is None:
            h = torch.zeros(x.size(0), self.hidden_size, dtype=x.dtype, device=x.device)  # dense, though x were sparse
        else:
            h = hx if is_batched else hx.unsqueeze(0)
        spec = GRUSpec(self.input_size, self.hidden_size, bias=self.bias)
        h = ops.cell(self.backend, spec, x, h, weights)
        return h if is_batched else h.squeeze(0)

    def _weights(self) -> list[Tensor]:
        """The weights as they are now; a look at the parameters takes a tenth of the attributes' time."""
        parameters = self._parameters
        if self.bias and list(parameters) == _CELL_WEIGHTS:
            return list(parameters.values())  # type: ignore[arg-type]
        return [getattr(self, name) for name in (_CELL_WEIGHTS if self.bias else _CELL_WEIGHTS[:2])]

    def extra_repr(self) -> str:
        """torch's, and the backend where one was asked for."""
        return super().extra_repr() + ("" if self.backend == "auto" else f", backend={self.backend!r}")
