"""Horizontal bars that compare contenders: a colour each, which is the same in every picture, spread, and labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS, OTHERS, INK = "#1f5fd0", "#ee4c2c", "#b4b8bf", "#30343b"


class Bar(NamedTuple):
    """One contender's: how long it is, what is written behind it, and the ends of its spread, if it has one."""

    name: str
    value: float
    label: str
    spread: tuple[float, float] | None = None


def colour_of(name: str) -> str:
    """fastgru's, torch.nn.GRU's, and one for all others."""
    if name.startswith("fastgru"):
        return OURS
    return THEIRS if name == "torch.nn.GRU" else OTHERS


def draw_bars(axes: "Axes", bars: Sequence[Bar], title: str, end: float, height: float = 0.62) -> None:
    """Draw them from the top down, with their names to the left and without an axis: the labels have the numbers.

    end: where the drawing ends, in the values' unit. height: of a bar; from one to the next it is 1.
    """
    places = [-number for number in range(len(bars))]
    names = [bar.name for bar in bars]
    axes.barh(places, [bar.value for bar in bars], height, color=list(map(colour_of, names)))
    for place, (name, value, label, spread) in zip(places, bars, strict=True):
        tip = value
        if spread is not None:
            ends = [[max(value - spread[0], 0)], [max(spread[1] - value, 0)]]
            axes.errorbar([value], [place], xerr=ends, color=INK, elinewidth=1, capsize=2.5, fmt="none")
            tip = max(value, spread[1])
        weight = "bold" if name.startswith("fastgru") else "normal"
        axes.text(tip + end * 0.02, place, label, va="center", fontsize=10, color=INK, weight=weight)
    axes.set_yticks(places, names, fontsize=10)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name.startswith("fastgru") else "normal")
    axes.set_xlim(0, end)
    axes.set_xticks([])
    axes.tick_params(length=0, colors=INK)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
