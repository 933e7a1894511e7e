"""Attention maps: what the decoder looked at while it wrote."""

from pathlib import Path

from fastgru.common.errors import InputError
from fastgru.common.files import check_image
from fastgru.inference.generation import TextGenerator

MOST = 12  # maps in one picture


def check_map(model: TextGenerator, sources: list[str], path: str) -> None:
    """InputError where no picture of these sources can be drawn to `path`: before anything is computed."""
    check_image(Path(path))
    if not model.attends:
        raise InputError("this model has no attention: there is nothing to draw")
    if len(sources) > MOST:
        raise InputError(f"a picture has {MOST} attention maps at most, got {len(sources)} inputs")


def draw_attention(model: TextGenerator, sources: list[str], targets: list[str], path: str) -> None:
    """Draw one map for each source and what was written from it; dark is much looked at, and each row sums to 1."""
    from matplotlib.figure import Figure

    columns = min(len(sources), 3)
    rows = -(-len(sources) // columns)
    figure = Figure(figsize=(4 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for source, target in zip(sources, targets, strict=True):
        shown = next(axes)
        found = model.align(source, target)
        shown.imshow(found.weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        shown.set_xticks(range(len(found.source)), found.source)
        shown.set_yticks(range(len(found.target)), found.target)
    for unused in axes:
        unused.axis("off")
    figure.savefig(path, dpi=120)
