"""What a GRU is made with, where torch.nn.GRU would not take it."""

from collections.abc import Sequence
from typing import Any


def one_size(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[int, ...] | None, tuple[Any, ...], dict[str, Any]]:
    """The hidden sizes, where a GRU is given several that differ, and its arguments with one size, as torch takes them.

    Raises what torch does for a size that is none, and ValueError where the layers are not as many as the sizes.
    """
    given = args[1] if len(args) > 1 else kwargs.get("hidden_size")
    if not isinstance(given, Sequence) or isinstance(given, str):
        return None, args, kwargs
    sizes = tuple(given)
    _check_sizes(sizes, args[2] if len(args) > 2 else kwargs.get("num_layers"))
    places = (("hidden_size", sizes[0]), ("num_layers", len(sizes)))
    by_place = [value for _, value in places][: max(len(args) - 1, 0)]
    by_name = dict(places[len(by_place) :])
    return sizes if len(set(sizes)) > 1 else None, (*args[:1], *by_place, *args[3:]), kwargs | by_name


def _check_sizes(sizes: tuple[Any, ...], num_layers: int | None) -> None:
    for size in sizes:
        if not isinstance(size, int):
            raise TypeError(f"hidden_size should be of type int for each layer, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"hidden_size must be greater than zero for each layer, got {[*sizes]}")
    if not sizes or num_layers not in (None, len(sizes)):
        layers = "" if num_layers is None else f" and num_layers={num_layers}"
        raise ValueError(f"hidden_size must have one size for each layer, got {[*sizes]}{layers}; leave num_layers out")
