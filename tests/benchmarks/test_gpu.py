"""`make gpu` without a GPU: its arithmetic, what it writes, and that no page speaks of times that nobody measured."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu_parts import PARTS, Machine
from fastgru.backends.triton import measured

TIMES = [
    {
        "dtype": "bfloat16",
        "H": 256,
        "B": 16,
        "T": 1024,
        "passes": "forward",
        "fastgru": 1.5,
        "nn.GRU": 6.0,
        "nn.LSTM": 7.0,
    },
    {
        "dtype": "bfloat16",
        "H": 256,
        "B": 16,
        "T": 1024,
        "passes": "both",
        "fastgru": 9.0,
        "nn.GRU": 8.0,
        "nn.LSTM": 9.0,
    },
]


def test_page_says_that_nothing_was_measured_as_long_as_nothing_was() -> None:
    first = (gpu.ROOT / "docs/gpu.md").read_text().splitlines()[0]
    assert (first == gpu.UNMEASURED) == (measured.read() == frozenset())


def test_won_are_the_cases_faster_than_cudnn() -> None:
    assert gpu.won([*TIMES, {"failed": "timing: exit code 1", "right": False}], 90) == {
        (90, "bfloat16", 256, 16, "forward")
    }


def test_worst_is_the_largest_difference_of_each_option() -> None:
    rows = [{"precision": "tf32", "option": "plain", "difference": value} for value in (1e-4, 3e-4, 2e-4)]
    assert gpu.worst([*rows, {"failed": "x"}]) == [rows[1], {"failed": "x"}]


def test_written_page_keeps_all_but_the_tables(tmp_path: Path) -> None:
    gpu.write_page(tmp_path / "gpu.md", gpu.page({"timing": TIMES}, "an H100"), is_dry=False)
    text = (tmp_path / "gpu.md").read_text()
    assert gpu.UNMEASURED not in text
    assert "Measured on an H100." in text
    assert "| bfloat16 | 256 | 16 | 1024 | forward | 1.5 | 6 | 7 |" in text
    assert text.endswith((gpu.ROOT / "docs/gpu.md").read_text().split(gpu.END)[1])
    gpu.draw(TIMES, tmp_path / "gpu.png")
    assert (tmp_path / "gpu.png").stat().st_size > 1000


def test_a_process_that_hangs_or_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.LIMITS, "memory", 0)
    assert gpu.run_part("memory", True, 1) == [
        {"failed": "memory: exit code none: it did not end in time", "right": False}
    ]


def test_nothing_is_timed_once_something_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def wrong(part: str, is_dry: bool, processes: int) -> list[gpu.Row]:
        asked.append(part)
        return [{"precision": "tf32", "option": "plain", "difference": 1.0, "right": part != "numerics"}]

    monkeypatch.setattr(gpu, "run_part", wrong)
    assert not gpu.run(is_dry=True, out=tmp_path, processes=1)
    assert asked == ["numerics"]


def test_without_a_gpu_it_says_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "torch sees no GPU here; --dry --out FOLDER" in capsys.readouterr().err


@pytest.mark.usefixtures("triton_interpreter")
@pytest.mark.parametrize("part", ["memory", "numerics"])
def test_a_part_finds_nothing_wrong_in_the_interpreter(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.print_part(part, "0/7", is_dry=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows
    assert all(row["right"] for row in rows)


def test_every_part_has_a_limit() -> None:
    assert list(gpu.LIMITS) == [*PARTS]
    assert Machine(is_dry=True).device.type == "cpu"
