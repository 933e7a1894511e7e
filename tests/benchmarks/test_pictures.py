"""The pictures of speed: what they are made of, and that nothing in them lies on something else."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmarks import measurement, pictures
from benchmarks.measurement import Measurement, read_csv, write_csv
from fastgru.cli import benchmark
from fastgru.cli.bars import OURS, THEIRS, colour_of
from fastgru.cli.benchmark import Row, Shape

DOCS = Path(__file__).parents[2] / "docs"
KEPT = sorted((DOCS / "benchmarks").glob("*.csv"))


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """The texts of a picture that lie on one another, or beyond its edges."""
    FigureCanvasAgg(figure).draw()
    texts = [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text() and t.get_visible()]
    texts = [t for t in texts if t.axes is None or t.axes.axison]
    boxes = {t: t.get_window_extent() for t in texts}
    found = [(a.get_text(), b.get_text()) for a, b in combinations(texts, 2) if boxes[a].overlaps(boxes[b])]
    width, height = figure.get_size_inches() * figure.dpi
    outside = [t for t in texts if boxes[t].x0 < 0 or boxes[t].x1 > width or boxes[t].y0 < 0 or boxes[t].y1 > height]
    return found + [(text.get_text(), "the edge") for text in outside]


def test_a_measurement_keeps_medians_and_quartiles_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "PACKAGES", ["torch"])
    m = Measurement.of(Shape(3, 4, 2, 5, 2), 2, "training", {"fastgru.GRU avx2": [1.0, 5.0, 2.0, 3.0, 4.0]})
    assert (m.seconds, m.quartiles) == ({"fastgru.GRU avx2": 3.0}, {"fastgru.GRU avx2": (2.0, 4.0)})
    once = Measurement.of(Shape(3, 4, 2, 5), 1, "inference", {"fastgru.GRU avx2": [7.0], "torch.nn.GRU": [8.0]})
    write_csv([m, once], tmp_path / "layers.csv")
    found, machine = read_csv(tmp_path / "layers.csv")
    assert found == [m, once]
    assert machine.startswith("fastgru ")
    assert "threads" not in machine


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_no_text_lies_on_another_in_the_pictures_of_speed(path: Path) -> None:
    measurements, machine = read_csv(path)
    assert overlapping(pictures.speed(measurements, machine)) == []
    assert overlapping(pictures.layers(measurements, machine)) == []


def test_the_same_measurements_draw_the_same_pictures(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        pictures.draw(KEPT[0], tmp_path / folder)
    for name in ("speed.svg", "layers.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_bar_is_as_long_as_the_median_speed_and_has_its_contenders_colour() -> None:
    measurements, machine = read_csv(KEPT[0])
    inference, training = pictures.speed(measurements, machine).axes
    rows = [m for m in measurements if (m.mode, m.threads) == ("training", 2)]
    speeds = sorted(row.over("torch.nn.GRU") for row in rows)
    assert training.patches[0].get_width() == pytest.approx((speeds[4] + speeds[5]) / 2)
    for axes in (inference, training):
        names = [tick.get_text() for tick in axes.get_yticklabels()]
        colours = dict(zip(names, (patch.get_facecolor() for patch in axes.patches), strict=True))
        assert _hex(colours["fastgru.GRU"]) == OURS
        assert _hex(colours["torch.nn.GRU"]) == THEIRS
        assert _hex(colours["oneDNN"]) == colour_of("oneDNN") not in (OURS, THEIRS)


@pytest.mark.parametrize("scale", [0.01, 1, 400])
def test_no_text_lies_on_another_in_the_commands_picture(
    scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(name: str, forward: float, training: float, kept: int) -> Row:
        spreads = [(0.9 * scale * ms, 1.6 * scale * ms) for ms in (forward, training)]
        return Row(name, 1, 2, forward * scale, training * scale, int(kept * scale), *spreads)

    rows = [
        row("LSTM", 17.6, 60.7, 54_538_000),
        row("torch.nn.GRU", 23.7, 67.7, 26_214_000),
        row("fastgru.GRU", 11.4, 32.0, 13_107_000),
    ]
    drawn: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    benchmark.plot(rows, Shape(1024, 1024, 256, 1000, 2), tmp_path / "bench.png", rounds=30)
    assert overlapping(drawn[0]) == []
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert texts[2].endswith(" ms, 2.1x as fast")


def _hex(colour: Any) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])
