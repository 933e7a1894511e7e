"""The pictures of speed, from layers.csv of `make bench`: `python -m benchmarks.pictures layers.csv --out FOLDER`.

speed.svg is for a stranger: how many times as fast as torch.nn.GRU each contender is. layers.svg has every size.
"""

import argparse
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measurement import Measurement, read_csv
from fastgru.cli.bars import INK, OTHERS, OURS, THEIRS, Bar, draw_bars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASE = "torch.nn.GRU"
NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "onednn": "oneDNN"}
EDGE = 12.0  # of speed.svg, times torch.nn.GRU; what is faster is written there
# One colour and one mark a contender, in every panel.
MARKS = {
    "fastgru.GRU": (OURS, "o"),
    "fastgru.GRU, AVX2": ("#8fb4f5", "o"),
    BASE: (THEIRS, "|"),
    "torch.nn.LSTM": ("#f2a65a", "v"),
    "ONNX Runtime": ("#7a5fb0", "s"),
    "OpenVINO": ("#3f9c78", "D"),
    "oneDNN": ("#8a8f98", "^"),
}


def speeds(rows: list[Measurement], name: str) -> list[float]:
    """How many times as fast as torch.nn.GRU a contender is, at each size."""
    return [row.seconds[BASE] / row.seconds[name] for row in rows]


def called(name: str, ours: str) -> str:
    """A contender's name for readers: fastgru's best instruction set has none."""
    if name == ours:
        return "fastgru.GRU"
    return name.replace(" avx2", ", AVX2") if name.startswith("fastgru") else NAMES.get(name, name)


def speed(measurements: list[Measurement], machine: str) -> "Figure":
    """Bars of the medians over all sizes, and a dot a size, for inference and for training on all threads."""
    from matplotlib.figure import Figure

    threads = max(m.threads for m in measurements)
    figure = Figure(figsize=(9.5, 3.7), layout="constrained")
    lines = 0
    for axes, mode in zip(figure.subplots(1, 2), ("inference", "training"), strict=True):
        rows = [m for m in measurements if (m.mode, m.threads) == (mode, threads)]
        ours = rows[0].ours
        # torch.nn.LSTM is another cell, and slower instruction sets of ours no rival
        names = [n for n in rows[0].seconds if n == ours or not n.startswith(("fastgru", "torch.nn.LSTM"))]
        medians = {name: statistics.median(speeds(rows, name)) for name in names}
        names.sort(key=lambda name: -medians[name])
        bars = [Bar(called(name, ours), medians[name], f"{medians[name]:.1f}x") for name in names]
        draw_bars(axes, bars, mode, EDGE, height=0.46)
        for place, name in enumerate(names):
            _dots(axes, -place - 0.38, speeds(rows, name) if name != BASE else [])
        lines = max(lines, len(names))
        axes.set_ylim(-lines + 0.4, 0.5)
    count = len({m.shape for m in measurements if m.mode == "inference"})
    title = "How many times as fast as torch.nn.GRU: longer is better"
    figure.suptitle(title, fontsize=13, weight="bold", x=0.01, ha="left", color=INK)
    note = f"Bars: medians of {count} layer sizes; dots: each size. {threads} threads. {machine}"
    figure.supxlabel(note, fontsize=8, color="#70757d", x=0.01, ha="left")
    return figure


def _dots(axes: "Axes", place: float, found: list[float]) -> None:
    """A dot a size; those beyond the edge are written there."""
    inside = [speed for speed in found if speed < EDGE]
    axes.plot(inside, [place] * len(inside), "o", markersize=3.2, color=INK, alpha=0.5, markeredgewidth=0)
    beyond = [speed for speed in found if speed >= EDGE]
    if beyond:
        text = ", ".join(f"{speed:.0f}x" for speed in sorted(beyond))
        axes.text(EDGE, place, f"{text} \N{RIGHTWARDS ARROW}", ha="right", va="center", fontsize=8, color=INK)


def layers(measurements: list[Measurement], machine: str) -> "Figure":
    """Every contender at every size, a panel for each mode and number of threads."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys((m.threads, m.mode) for m in measurements if m.mode != "one step"))
    lines = (len(groups) + 1) // 2
    figure = Figure(figsize=(11, 0.9 + 3.7 * lines), layout="constrained")
    panels = figure.subplots(lines, 2, sharey=True, sharex=True, squeeze=False).flat
    shown = {}
    for axes, (threads, mode) in zip(panels, groups, strict=False):
        rows = [m for m in measurements if (m.threads, m.mode) == (threads, mode)]
        for name in rows[0].seconds:
            label = called(name, rows[0].ours)
            shown[label] = _points(axes, rows, name, *MARKS.get(label, (OTHERS, "x")))
        axes.set_yticks(range(len(rows)), [str(row.shape).replace("bidirectional", "D=2") for row in rows], fontsize=8)
        axes.set_xscale("log")
        axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50, 100], ["0.5", "1", "2", "5", "10", "20", "50", "100"], fontsize=8)
        axes.minorticks_off()
        axes.grid(axis="x", color="#e4e6ea")
        axes.axvline(1, color=THEIRS, linewidth=1)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{mode}, {threads} thread{'s' if threads > 1 else ''}", loc="left", fontsize=10)
    for axes in list(panels):
        axes.set_axis_off()
    figure.axes[0].invert_yaxis()
    figure.legend(shown.values(), shown, loc="outside upper left", ncols=len(shown), fontsize=8.5, frameon=False)
    note = f"Times as fast as torch.nn.GRU, medians; lines: quartiles, where they were kept. {machine}"
    figure.supxlabel(note, fontsize=8, color="#70757d", x=0.01, ha="left")
    return figure


def _points(axes: "Axes", rows: list[Measurement], name: str, colour: str, mark: str) -> object:
    """One contender's speeds, with the range from its slowest to its fastest quarter."""
    for place, row in enumerate(rows):
        if name in row.quartiles:
            ends = [row.seconds[BASE] / seconds for seconds in row.quartiles[name]]
            axes.plot(ends, [place] * 2, color=colour, linewidth=1)
    found = speeds(rows, name)
    return axes.plot(found, range(len(rows)), mark, color=colour, markersize=8 if mark == "|" else 5)[0]


def draw(path: Path, folder: Path) -> None:
    """Both pictures of a layers.csv into a folder; the same file gives the same bytes."""
    import matplotlib

    measurements, machine = read_csv(path)
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "fastgru"}):
        for make in (speed, layers):
            figure = make(measurements, machine)
            figure.savefig(folder / f"{make.__name__}.svg", metadata={"Date": None})


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="layers.csv of benchmarks.layers")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the pictures")
    options = parser.parse_args()
    draw(options.csv, options.out)
    print(f"written: {options.out}/speed.svg, layers.svg")


if __name__ == "__main__":
    main()
