"""The native module's Network and Stream in NumPy, for where it is not built: the same numbers, slower."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastgru.inference.arrays import widened

NORM_EPSILON = 1e-5


class Network:
    """As `fastgru._native.Network`, whose arguments these are; `GRU` has checked them, and checks each call's."""

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        directions: int,
        bias: bool,
        reset_after: bool,
        layer_norm: bool,
        zoneout: float,
        weights: Sequence[Any],
        initial_state: Any,
    ) -> None:
        self.hidden_sizes, self.directions = hidden_sizes, directions
        self.reset_after, self.layer_norm, self.keep = reset_after, layer_norm, 1 - zoneout
        is_int8 = weights[0].dtype == np.int8
        each = 2 + 2 * is_int8 + 2 * bias + 2 * layer_norm
        own = [_columns(weights[first : first + each], is_int8) for first in range(0, len(weights), each)]
        self.weights: list[Any] = [part + ([] if bias else [0, 0]) for part in own]
        if layer_norm and not bias:
            self.weights = [[*part[:2], 0, 0, *part[2:4]] for part in self.weights]
        self.initial = None if initial_state is None else self.by_layer(np.array(initial_state))

    def by_layer(self, states: Any) -> list[Any]:
        """Each layer's part of what has the form of h0: `[L*D, ...]`, `[D, ..., sum(H)]` where the sizes differ."""
        if len({*self.hidden_sizes}) > 1:
            return np.split(states, np.cumsum(self.hidden_sizes)[:-1], axis=-1)
        return np.split(states, len(self.hidden_sizes))

    def forward(
        self, x: Any, y: Any, h_n: Any, h0: Any, lengths: Any, resets: Any, batch_first: bool, threads: int
    ) -> None:
        """Write y and h_n."""
        out, resets = (a.swapaxes(0, 1) if batch_first and a is not None else a for a in (x, resets))
        exists = np.ones(out.shape[:2], bool) if lengths is None else np.arange(len(out))[:, None] < lengths
        starts, ends = None if h0 is None else self.by_layer(h0), self.by_layer(h_n)
        for number, end in enumerate(ends):
            fresh = np.zeros(end[:, 0].shape if end.ndim == 3 else end.shape, out.dtype)
            fresh = fresh if self.initial is None else self.initial[number]
            parts = []
            for d in range(self.directions):
                h = np.broadcast_to(fresh[d], end[d].shape) if starts is None else starts[number][d]
                part, end[d] = self._direction(
                    out, h, self.weights[number * self.directions + d], exists, resets, fresh[d], d == 1
                )
                parts.append(part)
            out = np.concatenate(parts, 2)
        (y.swapaxes(0, 1) if batch_first else y)[...] = out

    def _direction(
        self, x: Any, h: Any, weights: Sequence[Any], exists: Any, resets: Any, fresh: Any, reverse: bool
    ) -> tuple[Any, Any]:
        """One direction's outputs [T, B, H] and final state."""
        y = np.zeros((*x.shape[:2], h.shape[1]), x.dtype)
        for t in range(len(x) - 1, -1, -1) if reverse else range(len(x)):
            here, at = exists[t][:, None], t + reverse  # backwards the reset after a step comes before it
            if resets is not None and at < len(x):
                h = np.where((resets[at] & exists[at])[:, None], fresh, h)
            h = np.where(here, self._step(x[t], h, *weights), h)
            y[t] = np.where(here, h, 0)
        return y, h

    def _step(self, x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, g_ih: Any = 1, g_hh: Any = 1) -> Any:
        """The state after h."""
        width = h.shape[1]
        gx = self._normed(_product(x, w_ih), g_ih) + b_ih
        gh = self._normed(_product(h, w_hh), g_hh) + b_hh
        r, z = (_sigmoid(gx[:, gate] + gh[:, gate]) for gate in (np.s_[:width], np.s_[width : 2 * width]))
        candidate = np.s_[2 * width :]
        if self.reset_after:
            n = np.tanh(gx[:, candidate] + r * gh[:, candidate])
        else:
            bias = b_hh if isinstance(b_hh, int) else b_hh[candidate]
            n = np.tanh(gx[:, candidate] + _product(r * h, w_hh)[:, candidate] + bias)
        return h + self.keep * (n + z * (h - n) - h)

    def _normed(self, a: Any, gain: Any) -> Any:
        if not self.layer_norm:
            return a
        return gain * (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + NORM_EPSILON)


class Stream:
    """As `fastgru._native.Stream`."""

    def __init__(self, network: Network, batch: int) -> None:
        self._network, w_ih = network, network.weights[0][0]
        sizes, self._inputs = network.hidden_sizes, len(w_ih)
        shape = (1, batch, sum(sizes)) if len({*sizes}) > 1 else (len(sizes), batch, sizes[0])
        self._dtype = np.dtype(np.float32) if isinstance(w_ih, _Int8) else w_ih.dtype
        self._state = np.zeros(shape, self._dtype)
        self.reset(None)

    def step(self, x: Any, y: Any, threads: int) -> None:
        """Write y."""
        batch = self._state.shape[1]
        last = self._network.hidden_sizes[-1]
        for name, array, size in (("x", x, self._inputs), ("out", y, last)):
            if not isinstance(array, np.ndarray) or array.dtype != self._dtype:
                came = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise TypeError(f"{name} must be an array of {self._dtype}, got {came}")
            if array.shape != (batch, size) and (batch > 1 or array.shape != (size,)):
                raise ValueError(f"{name} must be {[batch, size]}, got {[*array.shape]}")
        state = np.empty_like(self._state)
        x, y = (a.reshape(1, batch, -1) for a in (x, y))
        self._network.forward(x, y, state, self._state, None, None, False, threads)
        self._state = state

    def reset(self, rows: Any) -> None:
        """To the initial state."""
        rows = np.arange(self._state.shape[1]) if rows is None else rows
        if rows.size and not 0 <= rows.min() <= rows.max() < self._state.shape[1]:
            raise IndexError(f"rows must be from 0 to {self._state.shape[1] - 1}, got {rows.tolist()}")
        initial = self._network.initial
        states = self._network.by_layer(self._state)
        for number, state in enumerate(states):
            state[:, rows] = 0 if initial is None else initial[number][:, None]

    def get_state(self, to: Any) -> None:
        """Write the states."""
        to[...] = self._state

    def set_state(self, states: Any) -> None:
        """Go on from other states."""
        self._state = np.array(states)


class _Int8(NamedTuple):
    """A matrix: values [K, 3H], whole numbers, in float64, whose products are exact; scale [3H]."""

    values: Any
    scale: Any

    def __len__(self) -> int:
        return len(self.values)


def _columns(weights: Sequence[Any], is_int8: bool) -> list[Any]:
    """A direction's weights, the matrices transposed, and of those of int8 their scales inside."""
    parts = [widened(w) if w.dtype == np.uint16 else np.array(w) for w in weights]
    if not is_int8:
        return [w.T for w in parts]
    return [*(_Int8(w.T.astype(np.float64), s) for w, s in zip(parts[:2], parts[2:4], strict=True)), *parts[4:]]


def _product(x: Any, w: Any) -> Any:
    """x [B, K] times w [K, 3H]; of int8 as gru.h defines it."""
    if not isinstance(w, _Int8):
        return x @ w
    most = np.maximum(np.abs(x).max(1, keepdims=True), np.float32(1e-30))
    is_finite = np.isfinite(most)
    with np.errstate(invalid="ignore"):
        whole = np.where(is_finite, np.rint(x * (np.float32(127) / most)), 0)
    sums = (whole.astype(np.float64) @ w.values).astype(np.float32)
    return sums * w.scale * np.where(is_finite, most / np.float32(127), np.float32(np.nan))


def _sigmoid(a: Any) -> Any:
    return 0.5 + 0.5 * np.tanh(0.5 * a)
