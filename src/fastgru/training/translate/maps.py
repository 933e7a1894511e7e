"""Attention maps: what the decoder looked at while it wrote."""

from pathlib import Path
from typing import Any

from fastgru.common.errors import InputError
from fastgru.common.files import check_image
from fastgru.inference.generation import TextGenerator
from fastgru.training.lettering import boxed, fonts_for, shortened

MOST = 12  # maps in one picture
CELL = 0.3  # inches of a token, at which its name is legible
TITLE = 32  # characters of a source and of what was written from it


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

    maps = [model.align(source, target) for source, target in zip(sources, targets, strict=True)]
    columns = min(len(sources), 3)
    rows = -(-len(sources) // columns)
    width = min(1.6 + CELL * max(len(one.source) for one in maps), 14)
    height = min(1.7 + CELL * max(len(one.target) for one in maps), 14)
    tokens = [token for one in maps for token in (*one.source, *one.target)]
    with fonts_for([*sources, *targets, *tokens]):
        figure = Figure(figsize=(max(width, 3.0) * columns + 1.2, max(height, 2.6) * rows), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, source, target, one in zip(panels, sources, targets, maps, strict=False):
            image = _draw_map(axes, one)
            title = "\n".join(boxed(shortened([source, target], TITLE)))
            axes.set_title(title, fontsize="medium", parse_math=False)
        for unused in panels[len(maps) :]:
            unused.axis("off")
        figure.colorbar(image, ax=panels, label="attention (a row sums to 1)", fraction=0.03, pad=0.02)
        figure.savefig(path, dpi=120)


def _draw_map(axes: Any, one: Any) -> Any:
    """Draw what was read from left to right, and what was written from top to bottom; gives the image."""
    image = axes.imshow(one.weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    upright = max(map(len, one.source), default=0) <= 2
    turned = {} if upright else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(one.source)), boxed(shortened(one.source)), parse_math=False, **turned)
    axes.set_yticks(range(len(one.target)), boxed(shortened(one.target)), parse_math=False)
    axes.set(xlabel="read", ylabel="written")
    axes.set_xticks([place - 0.5 for place in range(1, len(one.source))], minor=True)
    axes.set_yticks([place - 0.5 for place in range(1, len(one.target))], minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    return image
