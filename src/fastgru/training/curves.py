"""Learning curves as a picture."""

from pathlib import Path


def draw_curves(rows: list[dict[str, float]], path: Path) -> None:
    """Draw each measure by epoch, training and validation in one picture, into the PNG file at `path`.

    `rows`: one an epoch, with the columns `epoch`, `train_*` and `validation_*`.
    """
    # Figure, not pyplot: no display, no global state.
    from matplotlib.figure import Figure

    parts = ("train", "validation")
    measures = list(dict.fromkeys(what for part, _, what in (name.partition("_") for name in rows[0]) if part in parts))
    figure = Figure(figsize=(4 * len(measures), 3.2), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, what in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        for part in parts:
            if f"{part}_{what}" in rows[0]:
                axes.plot(epochs, [row[f"{part}_{what}"] for row in rows], marker="o", markersize=3, label=part)
        axes.set(xlabel="epoch", ylabel=what.replace("_", " "))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
