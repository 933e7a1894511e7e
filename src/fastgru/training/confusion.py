"""The confusion of a classifier: which label was taken for which, as a table and as a picture."""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from fastgru.training.lettering import boxed, fonts_for, legible, shortened

if TYPE_CHECKING:
    from rich.table import Table

FEW = 12  # labels whose cells have room for large numbers
NUMBERED = 40  # labels at most whose cells have numbers in them: of more nobody could read these


def confusion_table(labels: list[str], counts: list[list[int]], title: str) -> "Table":
    """Give a table for the console. `labels [C]`; `counts [C, C]`: true label by row, predicted label by column."""
    from rich.table import Table

    few = len(labels) <= 4  # the word "called" of more would break every name of a line of 80 columns
    table = Table(title=title, title_justify="left")
    table.add_column("true label" if few else "true / called")
    for name in labels:
        table.add_column(f"called {name}" if few else name, justify="right")
    for name, row in zip(labels, counts, strict=True):
        table.add_row(name, *map(str, row))
    return table


def draw_confusion(labels: list[str], counts: list[list[int]], title: str, path: Path) -> None:
    """Draw the counts into the image file at `path`, each over its per cent of its row, which is a true label.

    A cell's colour is its share of the row. Names are cut at 20 characters.
    """
    # Figure, not pyplot: no display, no global state.
    from matplotlib.figure import Figure

    names, (title,) = legible(shortened(labels), "label"), boxed([title])
    with fonts_for([*names, title]):
        cell = 0.72 if len(labels) <= FEW else 0.5 if len(labels) <= NUMBERED else 0.22
        side = max(cell * len(labels), 2.2)
        figure = Figure(figsize=(side + 3.5, side + 3))  # what stays empty of it is cut away
        axes = figure.subplots()
        shares = [[count / max(sum(row), 1) for count in row] for row in counts]
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(labels) <= NUMBERED:
            _write_numbers(axes, counts, shares, small=len(labels) > FEW)
        _write_names(axes, names, cell)
        axes.set_title(_wrapped(title, 40 + int(8 * side)), fontsize="medium", parse_math=False)
        bar = figure.colorbar(image, ax=axes, label="share of the true label's rows", fraction=0.04, pad=0.02)
        bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        figure.savefig(path, dpi=120, bbox_inches="tight", pad_inches=0.15)


def _write_names(axes: Any, names: list[str], cell: float) -> None:
    """Write the labels beside the rows and, aslant where they are wider than a `cell` (inches), under the columns."""
    size = "medium" if len(names) <= NUMBERED else "x-small"
    options: dict[str, Any] = {"parse_math": False, "fontsize": size}  # names are no formulas, whatever they hold
    axes.set_yticks(range(len(names)), names, **options)
    if max(map(len, names)) > 10 * cell:
        options |= {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, **options)
    axes.set(xlabel="predicted label", ylabel="true label")


def _write_numbers(axes: Any, counts: list[list[int]], shares: list[list[float]], *, small: bool) -> None:
    """Write into each cell its count and, under it, its per cent; nothing into the empty ones of larger tables."""
    for true, row in enumerate(counts):
        for called, count in enumerate(row):
            share = shares[true][called]
            if count or not small:
                axes.text(
                    called,
                    true,
                    f"{count:,}\n{_per_cent(share)}" if count else "0",
                    ha="center",
                    va="center",
                    linespacing=1.25,
                    fontsize=6.5 if small else 9,
                    color="white" if share > 0.5 else "black" if count else "#888888",
                )


def _per_cent(share: float) -> str:
    """Per cent in few characters, of which none says 0 or 100 where that is not so."""
    per_cent = 100 * share
    if 0 < per_cent < 1:
        return "<1 %"
    if 99 < per_cent < 100:
        return ">99 %"
    return f"{per_cent:.0f} %"


def _wrapped(title: str, width: int) -> str:
    return "\n".join(fill(line, width) for line in title.splitlines())
