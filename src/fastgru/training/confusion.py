"""The confusion of a classifier: which label was taken for which, as a table and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


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
    """Draw the counts into the image file at `path`; a cell's colour is its share of its row, its true label."""
    # Figure, not pyplot: no display, no global state.
    from matplotlib.figure import Figure

    side = min(3.2 + 0.55 * len(labels), 30)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, row in enumerate(counts):
        for called, count in enumerate(row):
            colour = "white" if shares[true][called] > 0.5 else "black"
            axes.text(called, true, f"{count:,}", ha="center", va="center", color=colour)
    places = range(len(labels))  # and names are no formulas, whatever dollars they hold
    axes.set_xticks(places, labels, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(places, labels, parse_math=False)
    axes.set(xlabel="predicted label", ylabel="true label")
    axes.set_title(title, fontsize="medium", parse_math=False)
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.8)
    figure.savefig(path, dpi=120)
