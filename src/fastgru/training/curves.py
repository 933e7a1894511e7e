"""Learning curves as a picture."""

from pathlib import Path
from typing import Any

PARTS = {"train": "#e07b39", "validation": "#2a6fdb"}
TREND = "trend"  # a running mean of the loss, which is drawn beside the loss


def draw_curves(rows: list[dict[str, float]], path: Path, kept: dict[str, float], title: str) -> None:
    """Draw each measure by epoch, training and validation in one panel, into the PNG file at `path`.

    `rows`: one an epoch, with the columns `epoch`, `train_*` and `validation_*`. `kept`: the row whose model is kept,
    which is marked in every panel.
    """
    # Figure, not pyplot: no display, no global state.
    from matplotlib.figure import Figure

    columns = [name.partition("_") for name in rows[0]]
    measures = list(dict.fromkeys(what for part, _, what in columns if part in PARTS and what != TREND))
    across = min(len(measures), 3)
    down = -(-len(measures) // across)
    figure = Figure(figsize=(max(4.2 * across, 5), 3.1 * down + 0.7), layout="constrained")
    figure.suptitle(title, fontsize="large", parse_math=False)
    panels = figure.subplots(down, across, squeeze=False).flat
    for axes, what in zip(panels, measures, strict=False):
        _draw_measure(axes, rows, what, kept)
    for unused in list(panels)[len(measures) :]:
        unused.remove()
    figure.axes[0].legend(fontsize="small", frameon=False)
    figure.savefig(path, dpi=120)


def _draw_measure(axes: Any, rows: list[dict[str, float]], what: str, kept: dict[str, float]) -> None:
    epochs = [row["epoch"] for row in rows]
    lines = {part: f"{part}_{what}" for part in PARTS}
    for part, column in lines.items():
        if column in rows[0]:
            values = [row[column] for row in rows]
            axes.plot(epochs, values, "o-" if len(rows) <= 30 else "-", markersize=3, color=PARTS[part], label=part)
    if what == "loss" and f"validation_{TREND}" in rows[0]:
        trend = [row[f"validation_{TREND}"] for row in rows]
        axes.plot(epochs, trend, "--", color=PARTS["validation"], label="its running mean")
    best = lines["validation"] if lines["validation"] in kept else lines["train"]
    axes.axvline(kept["epoch"], color="#888888", linewidth=1, linestyle=":", label=f"epoch kept: {kept['epoch']:.0f}")
    axes.plot(kept["epoch"], kept[best], "o", markersize=8, markerfacecolor="none", color="#222222")
    place = kept["epoch"], kept[best]
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    axes.annotate(f"{kept[best]:.4g}", place, (0, 9), textcoords="offset points", ha="center", fontsize=8, bbox=behind)
    axes.set(xlabel="epoch", ylabel=what.replace("_", " "))
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.margins(y=0.16)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
