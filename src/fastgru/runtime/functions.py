"""What the models need beside GRUs: softmax, and linear layers."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Weights = Mapping[str, Vectors]


def softmax(a: Vectors) -> Vectors:
    """exp(a) over its sum, along the last dimension."""
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)  # type: ignore[no-any-return]


def log_softmax(a: Vectors) -> Vectors:
    """The logarithm of `softmax(a)`."""
    a = a - a.max(-1, keepdims=True)
    return a - np.log(np.exp(a).sum(-1, keepdims=True))  # type: ignore[no-any-return]


class Linear:
    """y = x W' + b, over the last dimension of x; without a bias among the weights, y = x W'."""

    def __init__(self, weights: Weights, name: str) -> None:
        # OpenBLAS takes a fourth of the time for a few rows where W' lies in one piece (9 rows of 384 to 256 features).
        self.transposed = np.ascontiguousarray(weights[f"{name}.weight"].T)
        self.bias = weights.get(f"{name}.bias")

    def __call__(self, x: Vectors) -> Vectors:
        """Give y `[..., O]` of x `[..., I]`."""
        # one product: NumPy would make one for each row of the first dimension
        y = x.reshape(-1, x.shape[-1]) @ self.transposed
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], -1)
