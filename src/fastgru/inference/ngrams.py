"""N-grams of token ids, as numbers."""

from typing import Any, TypeVar

_FACTOR = 1_000_003

Array = TypeVar("Array", bound=Any)  # of int64: NumPy's or torch's, whose products are both modulo 2^64


def sizes(longest: int) -> range:
    """The lengths that n-grams have."""
    return range(3, longest + 1, 2)


def window_codes(framed: Array, n: int) -> Array:
    """Give `[B, T] int64`, a number for each n-gram of `framed [B, T + n - 1] int64`: a polynomial of its ids.

    Two n-grams share a number with a chance of about 2^-64, where nobody has made them to.
    """
    steps = framed.shape[1] - n + 1
    codes: Any = n
    for i in range(n):
        codes = codes * _FACTOR + framed[:, i : i + steps] + 1
    return codes  # type: ignore[no-any-return]
