"""GRU and Stream on NumPy arrays: the native kernels without torch, and NumPy where these are not built."""

import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from fastgru.runtime.weights import OPTIONS, arrays_of

_warned = False


class GRU:
    """A trained GRU in inference, of weights in torch's names.

    Args:
        weights: arrays by torch's names (`weight_ih_l0 [3H, I]`, `weight_hh_l0 [3H, H]`, `bias_ih_l0`, `bias_hh_l0`,
            `..._reverse`, with layer_norm `gain_ih_l0`, `gain_hh_l0`, and `initial_state`), or a GRUCell's
            (`weight_ih`, ...). Sizes, layers, directions and biases follow from them. They are copied once.
        prefix: what the names begin with, such as "encoder.rnn."; names that begin otherwise are left alone.
        batch_first: x and y are `[B, T, ...]` instead of `[T, B, ...]`.
        threads: how many a call may use.
        options: `reset_after`, `layer_norm`, `zoneout` (a probability), as fastgru.GRU has them.

    float32 or float64, as the weights are; half precision is computed in float32. Quantized weights
    (`fastgru.quantize`), int8 with `weight_ih_l0_scale [3H]` and the like, or the bits of bfloat16 in uint16, are
    multiplied as such, and all else is float32; `quantization` is then "int8" or "bf16".

    Raises InputError, which is a ValueError, where weights are missing, unknown, of other shapes or not finite.
    Any number of threads may call one.

    >>> import numpy as np
    >>> from fastgru import runtime
    >>> weights = {"weight_ih_l0": np.ones((12, 3), "f4"), "weight_hh_l0": np.ones((12, 4), "f4")}
    >>> gru = runtime.GRU(weights)
    >>> y, h_n = gru(np.zeros((7, 2, 3), "f4"))  # T = 7, B = 2
    >>> y.shape, h_n.shape
    ((7, 2, 4), (1, 2, 4))
    """

    def __init__(
        self,
        weights: Mapping[str, Any],
        *,
        prefix: str = "",
        batch_first: bool = False,
        threads: int = 1,
        **options: Any,
    ) -> None:
        self.batch_first, self.threads = batch_first, threads
        self.spec, arrays, initial = arrays_of(weights, prefix, options)
        self.quantization = {"int8": "int8", "uint16": "bf16"}.get(arrays[0].dtype.name, "")
        self.dtype = np.dtype(np.float32) if self.quantization else arrays[0].dtype
        self._engine = _engine()
        own = [getattr(self.spec, name) for name in OPTIONS]
        sizes = self.spec.input_size, [*self.spec.hidden_sizes], self.spec.directions
        self._network = self._engine.Network(*sizes, self.spec.bias, *own, arrays, initial)

    @property
    def input_size(self) -> int:
        """I, the features of x."""
        return self.spec.input_size

    @property
    def hidden_size(self) -> int | tuple[int, ...]:
        """H, or a tuple with that of each layer where they differ."""
        return self.spec.hidden_size

    @property
    def num_layers(self) -> int:
        """L."""
        return self.spec.num_layers

    @property
    def bidirectional(self) -> bool:
        """Whether D is 2."""
        return self.spec.bidirectional

    @property
    def output_size(self) -> int:
        """D*H of the last layer, the features of y."""
        return self.spec.directions * self.spec.hidden_sizes[-1]

    def __repr__(self) -> str:
        said = [f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"]
        said += [f"{name}=True" for name in ("batch_first", "bidirectional") if getattr(self, name)]
        own = {name: getattr(self.spec, name) for name in OPTIONS}
        said += [f"{name}={value}" for name, value in own.items() if value != OPTIONS[name]]
        said += [f"quantization={self.quantization!r}"] if self.quantization else []
        return f"GRU({', '.join(said)}, dtype={self.dtype})"

    def __call__(self, x: Any, h0: Any = None, lengths: Any = None, resets: Any = None) -> tuple[Any, Any]:
        """Run whole sequences.

        x: `[T, B, I]`, `[B, T, I]` with batch_first, or `[T, I]` for one sequence, of the weights' dtype.
        h0: `[L*D, B, H]` (`[L*D, H]` for one sequence), where the layers' H differ `[D, B, sum(H)]`; None: the learned
            initial state, or zeros.
        lengths: `[B]` integers from 0 to T: sequence b has the first lengths[b] steps; y is zero beyond them.
        resets: bool in the form of x without its features: where it is true the sequence starts anew.

        Returns y, `[T, B, D*H]` in the form of x, and h_n in the form of h0: new arrays.

        Raises TypeError for another dtype, and ValueError for sizes that do not fit.
        """
        x = np.asarray(x)
        self._expect("x", x, x.shape)
        single = x.ndim == 2
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            form = "B, T" if self.batch_first else "T, B"
            raise ValueError(f"x must be [{form}, {self.input_size}] or [T, {self.input_size}], got {[*x.shape]}")
        if single:
            if lengths is not None:
                raise ValueError("lengths are of a batch: leave them out beside one sequence [T, I]")
            x = x[:, None]
            resets = None if resets is None else np.asarray(resets)[:, None]
        batch_first = self.batch_first and not single
        steps, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
        if steps == 0:
            raise ValueError("x must have at least one step")
        shape = self.spec.states_shape(batch)
        if h0 is not None:
            h0 = np.ascontiguousarray(h0)
            h0 = h0[:, None] if single and h0.ndim == 2 else h0
            self._expect("h0", h0, shape)
            h0 = np.ascontiguousarray(h0)
        lengths = None if lengths is None else _lengths(lengths, batch, steps)
        if resets is not None:
            resets = np.asarray(resets)
            if resets.dtype != bool or resets.shape != x.shape[:2]:
                raise ValueError(f"resets must be {[*x.shape[:2]]} bool, got {[*resets.shape]} {resets.dtype}")
        y, h_n = np.empty((*x.shape[:2], self.output_size), self.dtype), np.empty(shape, self.dtype)
        if batch:
            self._network.forward(_dense_rows(x), y, h_n, h0, lengths, resets, batch_first, self.threads)
        return (y[:, 0], h_n[:, 0]) if single else (y, h_n)

    def stream(self, batch: int = 1) -> "Stream":
        """Begin a stream of `batch` sequences, from the initial state; ValueError for a bidirectional GRU."""
        if self.bidirectional:
            raise ValueError("a bidirectional GRU has no stream: its second direction begins at the sequence's end")
        return Stream(self, batch)

    def _expect(self, name: str, array: Any, shape: tuple[int, ...]) -> None:
        if array.dtype != self.dtype:
            remedy = f"convert it: {name}.astype({str(self.dtype)!r})"
            raise TypeError(f"{name} must be {self.dtype}, as the weights are, got {array.dtype}; {remedy}")
        if array.shape != shape:
            raise ValueError(f"{name} must be {[*shape]}, got {[*array.shape]}")


class Stream:
    """Sequences of a GRU that come a step at a time: its states are kept inside. `GRU.stream` makes one.

    Streams of one GRU share its weights, and may run beside each other in threads; one stream is for one thread.

    >>> import numpy as np
    >>> from fastgru import runtime
    >>> weights = {"weight_ih_l0": np.ones((12, 3), "f4"), "weight_hh_l0": np.ones((12, 4), "f4")}
    >>> stream = runtime.GRU(weights).stream(batch=2)
    >>> stream.step(np.ones((2, 3), "f4")).shape
    (2, 4)
    >>> stream.reset(rows=[1])  # another user comes to the second place
    >>> stream.state[0, 1].tolist()
    [0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, gru: GRU, batch: int = 1) -> None:
        if not isinstance(batch, int | np.integer) or isinstance(batch, bool) or batch < 1:
            raise ValueError(f"batch must be a number of sequences of at least 1, got {batch!r}")
        self.gru, self.batch = gru, int(batch)
        self._stream = gru._engine.Stream(gru._network, self.batch)
        self._step, self._threads = self._stream.step, gru.threads
        self._shape = (self.batch, gru.output_size)

    def step(self, x_t: Any, out: Any = None) -> Any:
        """Take one step: the output `[B, H]` of x_t `[B, I]`; `[H]` of `[I]` where the stream has one sequence.

        out: where to write it, an array that does not overlap x_t; with it the step allocates nothing. Both are dense
        and of the weights' dtype. Raises TypeError and ValueError where an array is not such; the state is then as it
        was.
        """
        if out is None:
            out = np.empty(self._shape if getattr(x_t, "ndim", 2) == 2 else self._shape[1:], self.gru.dtype)
        self._step(x_t, out, self._threads)
        return out

    @property
    def state(self) -> Any:
        """The states, `[L, B, H]`, where the layers' H differ `[1, B, sum(H)]`: a copy; to be set as well."""
        state = np.empty(self.gru.spec.states_shape(self.batch), self.gru.dtype)
        self._stream.get_state(state)
        return state

    @state.setter
    def state(self, state: Any) -> None:
        state = np.ascontiguousarray(state)
        self.gru._expect("state", state, self.gru.spec.states_shape(self.batch))
        self._stream.set_state(state)

    def reset(self, rows: Any = None) -> None:
        """Begin anew with all sequences, or those of `rows`: one number, several, or a mask `[B]` bool.

        Raises IndexError for a row that is not there, TypeError for what is no number.
        """
        if rows is None:
            self._stream.reset(None)
            return
        numbers = np.atleast_1d(np.asarray(rows))
        if numbers.dtype == bool:
            if numbers.shape != (self.batch,):
                raise IndexError(f"a mask of rows must be {[self.batch]} bool, got {[*numbers.shape]}")
            numbers = np.flatnonzero(numbers)
        if numbers.size and (numbers.dtype.kind not in "iu" or numbers.ndim != 1):
            raise TypeError(f"rows must be integers or a mask [B] bool, got {[*numbers.shape]} {numbers.dtype}")
        self._stream.reset(np.ascontiguousarray(numbers, np.int64))


def _engine() -> Any:
    """The native module, or the fallback, which is said once."""
    global _warned
    if find_spec("fastgru._native") is not None:
        return import_module("fastgru._native")
    if not _warned:
        _warned = True
        warnings.warn(
            "fastgru's native module is not built: NumPy computes, slower; install fastgru with a C++17 compiler",
            RuntimeWarning,
            stacklevel=3,
        )
    return import_module("fastgru.runtime.fallback")


def _lengths(lengths: Any, batch: int, steps: int) -> Any:
    found = np.asarray(lengths)
    if found.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, got {found.dtype}")
    if found.shape != (batch,):
        raise ValueError(f"lengths must be {[batch]}, got {[*found.shape]}")
    if batch and not 0 <= found.min() <= found.max() <= steps:
        raise ValueError(f"lengths must be from 0 to T={steps}, got {found.tolist()}")
    return np.ascontiguousarray(found, np.int64)


def _dense_rows(x: Any) -> Any:
    """x as it lies, or a copy where its features do not lie in one piece, in whole numbers."""
    return x if x.flags.aligned and x.strides[-1] == x.itemsize else x.copy()
