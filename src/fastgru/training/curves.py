"""Learning curves as a picture."""

from pathlib import Path


def draw_curves(rows: list[dict[str, float]], path: Path) -> None:
    """Draw loss and accuracy by epoch, training and validation, into the PNG file at `path`."""
    # Figure, not pyplot: no display, no global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part in ("train", "validation"):
            axes.plot(epochs, [row[f"{part}_{what}"] for row in rows], marker="o", markersize=3, label=part)
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
