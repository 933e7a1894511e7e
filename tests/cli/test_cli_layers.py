"""The commands about layers: bench and info."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fastgru.cli import app


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


TINY = ["--input-size", "3", "--hidden-size", "4", "--batch", "2", "--steps", "3", "--rounds", "1"]


def test_bench_prints_the_comparison() -> None:
    done = run("bench", *TINY)
    assert done.exit_code == 0, done.output
    assert "I=3 H=4 B=2 T=3, medians of 1 interleaved rounds" in done.stdout
    cells = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in done.stdout.splitlines()]
    rows = {row[0]: row[1:] for row in cells if len(row) == 4}
    assert rows["parameters"] == ["144", "108 (0.75)", "108 (0.75)"]
    assert rows["gates (sigmoid)"] == ["3", "2 (0.67)", "2 (0.67)"]
    assert {"forward, ms", "forward + backward, ms", "kept for backward, MB"} <= set(rows)


def test_bench_draws_a_plot(tmp_path: Path) -> None:
    done = run("bench", *TINY, "--bidirectional", "--threads", "1", "--plot", tmp_path / "out.png")
    assert done.exit_code == 0, done.output
    assert "bidirectional" in done.stdout
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "--plot", "out.doc"], "an image's name ends in one of"),
        (["bench", "--plot", "nowhere/out.png"], "there is no folder nowhere"),
        (["info", "--dtype", "float33"], "--dtype must be a dtype of torch"),
        (["info", "--device", "toaster"], "such a layer cannot be made on this machine"),
        (["info", "--backend", "magic"], "backend must be one of 'auto', 'cpu', 'triton', 'aten', 'reference', got '"),
    ],
    ids=str,
)
def test_bad_input_gets_one_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_info_tells_who_serves_the_layer() -> None:
    done = run("info", "--input-size", "3", "--hidden-size", "5", "--dtype", "float64", "--backend", "reference")
    assert done.exit_code == 0, done.output
    assert "GRU(3, 5, backend='reference'), float64 on cpu" in done.stdout
    assert "reference  serves this layer" in done.stdout
