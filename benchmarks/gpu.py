"""What a GPU says of the Triton kernels, in about ten minutes: `python -m benchmarks.gpu`, or `make gpu`.

Numerics of all options in all precisions, a stress of the barrier, memory, CUDA graphs, and times beside cuDNN's GRU
and LSTM, torchrl's kernels where they are installed and the Python loop. Each part runs in processes of its own with a
limit of time: a barrier that hangs costs a minute, not the machine. No time is measured while numerics are wrong.

Writes the tables of docs/gpu.md, its picture, and the table by which backend "auto" decides. --dry: the same at tiny
sizes in Triton's interpreter, into --out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts import PARTS, Machine, Row
from fastgru.backends.triton import measured
from fastgru.cli.benchmark import machine as describe

ROOT = Path(__file__).parents[1]
LIMITS = {"numerics": 240, "stress": 120, "memory": 30, "graphs": 60, "timing": 300, "options": 120}  # seconds
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
UNMEASURED = "No time has been measured on a GPU yet: none could be had."


def run_part(part: str, is_dry: bool, processes: int) -> list[Row]:
    """The rows of a part; one that says so where a process failed or hung."""
    environment = os.environ | ({"TRITON_INTERPRET": "1"} if is_dry else {})
    own = [sys.executable, "-m", "benchmarks.gpu", "--part", part, *(["--dry"] if is_dry else [])]
    rows: list[Row] = []
    with ExitStack() as files:
        each = []
        for number in range(processes):
            output = files.enter_context(tempfile.TemporaryFile("w+"))
            command = [*own, "--share", f"{number}/{processes}"]
            each.append((subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output), output))
        end = time.monotonic() + LIMITS[part]
        for process, output in each:
            code = _ended(process, end - time.monotonic())
            output.seek(0)
            rows += [json.loads(line) for line in output.read().splitlines() if line.startswith("{")]
            if code != "0":
                rows.append({"failed": f"{part}: exit code {code}", "right": False})
    return rows


def _ended(process: subprocess.Popen[bytes], seconds: float) -> str:
    """A process's exit code, in words where it had to be killed."""
    try:
        return str(process.wait(max(seconds, 0)))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "none: it did not end in time"


def print_part(part: str, share: str, is_dry: bool) -> None:
    """Print the rows of a part as they come, a JSON line each."""
    number, of = map(int, share.split("/"))
    one = PARTS[part]
    rows = one(Machine(is_dry), number, of) if part == "numerics" else one(Machine(is_dry))
    for row in rows:
        print(json.dumps(row), flush=True)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Rows as a table of Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    yield "| " + " | ".join(names) + " |"
    yield "|" + "--:|" * len(names)
    for row in rows:
        yield "| " + " | ".join(_shown(row.get(name, "")) for name in names) + " |"


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def worst(rows: Sequence[Row]) -> list[Row]:
    """Of numerics, the largest difference of each precision and option."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        if "failed" not in row:
            key = row["precision"], row["option"]
            found[key] = max(found.get(key, row), row, key=lambda one: one["difference"])
    return [*found.values(), *(row for row in rows if "failed" in row)]


def page(found: dict[str, list[Row]], where: str) -> str:
    """What stands between the marks of docs/gpu.md."""
    titles = {
        "numerics": "Largest difference from the definition in float64",
        "stress": "Runs whose bits differed",
        "memory": "Bytes kept for backward",
        "graphs": "CUDA graphs",
        "timing": "Plain layers, us a step",
        "options": "Options, us a step forward",
    }
    parts = [f"Measured on {where}."]
    for part, rows in found.items():
        rows = worst(rows) if part == "numerics" else rows
        parts.append(f"### {titles[part]}\n\n" + "\n".join(table(rows) if rows else ["nothing was run"]))
    return "\n\n".join(parts)


def write_page(path: Path, text: str, is_dry: bool) -> None:
    """Put the tables between the marks; where they are of a GPU the first line says no longer that there are none."""
    whole = (ROOT / "docs/gpu.md").read_text()
    before, rest = whole.split(BEGIN)
    after = rest.split(END)[1]
    if not is_dry:
        before = before.replace(UNMEASURED, "Times were measured as told below.")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def won(rows: Sequence[Row], sm: int) -> frozenset[measured.Case]:
    """The cases in which the kernels took less time than cuDNN."""
    found = set()
    for row in rows:
        if "failed" not in row and row["fastgru"] < row["nn.GRU"]:
            dtype = getattr(torch, row["dtype"])
            found.add(measured.case_of(sm, dtype, row["H"], row["B"], row["passes"] == "both"))
    return frozenset(found)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Bars of a step's forward pass: ours and cuDNN's."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.get("passes") == "forward"]
    figure = Figure(figsize=(10, 0.4 * len(shown) + 1.5), layout="constrained")
    axes = figure.subplots()
    for offset, name in enumerate(("fastgru", "nn.GRU", "nn.LSTM")):
        places = [number + 0.27 * offset for number in range(len(shown))]
        axes.barh(places, [row[name] for row in shown], height=0.25, label=name)
    axes.set_yticks(range(len(shown)), [f"{row['dtype']} H={row['H']} B={row['B']}" for row in shown])
    axes.invert_yaxis()
    axes.set_xlabel("us a step, forward")
    axes.legend()
    figure.savefig(path, dpi=130)


def run(is_dry: bool, out: Path | None, processes: int) -> bool:
    """All parts, and what is written of them; whether everything was right."""
    found: dict[str, list[Row]] = {}
    for part in PARTS:
        if not all(row.get("right", True) for rows in found.values() for row in rows):
            print("something above is wrong: no time is measured", file=sys.stderr)
            break
        found[part] = run_part(part, is_dry, processes if part == "numerics" else 1)
        print(f"\n{part}\n" + "\n".join(table(found[part])), flush=True)
    folder = out or ROOT / "docs"
    where = f"Triton's interpreter, {describe()}" if is_dry else f"{torch.cuda.get_device_name()}, {describe()}"
    write_page(folder / "gpu.md", page(found, where), is_dry)
    if found.get("timing"):
        draw(found["timing"], folder / "gpu.png")
        major, minor = (0, 0) if is_dry else torch.cuda.get_device_capability()
        cases = won(found["timing"], 10 * major + minor)
        measured.write(cases if is_dry else cases | measured.read(), (out or measured.PATH.parent) / "measured.json")
    return "options" in found and all(row.get("right", True) for rows in found.values() for row in rows)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="tiny sizes in Triton's interpreter; needs --out")
    parser.add_argument("--out", type=Path, help="a folder for all that is written, in place of docs/ and the package")
    parser.add_argument("--processes", type=int, default=8, help="that compile and compare side by side")
    parser.add_argument("--part", choices=[*PARTS], help="one part alone, its rows as JSON lines")
    parser.add_argument("--share", default="0/1", help="of the part's cases, as 2/8: the third of eight shares")
    options = parser.parse_args()
    if not options.dry and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --dry --out FOLDER runs it in Triton's interpreter")
    if options.part:
        print_part(options.part, options.share, options.dry)
        return
    if options.dry and options.out is None:
        parser.error("--dry needs --out: its numbers are not for the documents")
    if not run(options.dry, options.out, options.processes):
        sys.exit(1)


if __name__ == "__main__":
    main()
