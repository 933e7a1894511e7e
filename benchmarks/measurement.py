"""What was measured of layers, and its file, layers.csv of `make bench`, of which the pictures are made."""

import csv
import platform
import re
import statistics
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from fastgru.cli.benchmark import Shape, machine, quartiles

ROOT = Path(__file__).parents[1]
PACKAGES = ["torch", "onnxruntime", "openvino", "onednn-cpu-gomp", "numpy"]
SIZES = ["input_size", "hidden_size", "batch", "steps", "directions"]


@dataclass(frozen=True)
class Measurement:
    """One shape, one number of threads and one mode (inference, training, one step).

    seconds: the median of each contender; quartiles: the first and the third, between which half of its calls lie.
    """

    shape: Shape
    threads: int
    mode: str
    seconds: dict[str, float]
    quartiles: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, shape: Shape, threads: int, mode: str, times: dict[str, list[float]]) -> "Measurement":
        """From the seconds of every call."""
        medians = {name: statistics.median(taken) for name, taken in times.items()}
        return cls(shape, threads, mode, medians, {name: quartiles(taken) for name, taken in times.items()})

    @property
    def ours(self) -> str:
        """fastgru on the fastest instruction set: the first contender."""
        return next(iter(self.seconds))

    def over(self, other: str) -> float:
        """How many times another's time is ours: above 1 we are faster."""
        return self.seconds[other] / self.seconds[self.ours]

    @property
    def best_rival(self) -> str:
        """The fastest of those that are not fastgru."""
        rivals = [name for name in self.seconds if not name.startswith("fastgru")]
        return min(rivals, key=self.seconds.__getitem__)

    @property
    def gflops(self) -> float:
        """Our rate in 10^9 floating-point operations a second, those of the products only; training has three times
        the products of inference.
        """
        s = self.shape
        products = 2 * 3 * s.hidden_size * (s.input_size + s.hidden_size) * s.batch * s.steps * s.directions
        return products * (3 if self.mode == "training" else 1) / self.seconds[self.ours] / 1e9


def write_csv(measurements: list[Measurement], path: Path) -> None:
    """A line a contender and measurement, in seconds, with machine, commit and versions."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    versions = " ".join(f"{name}={version(name)}" for name in PACKAGES)
    places = [machine(), platform.release(), commit, versions]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ["threads", "mode", "contender", "seconds", "first_quartile", "third_quartile"]
        writer.writerow([*SIZES, *columns, "machine", "kernel", "commit", "versions"])
        for m in measurements:
            for name, seconds in m.seconds.items():
                row = [f"{value:.4e}" for value in (seconds, *m.quartiles[name])]
                writer.writerow([*vars(m.shape).values(), m.threads, m.mode, name, *row, *places])


def read_csv(path: Path) -> tuple[list[Measurement], str]:
    """What `write_csv` wrote, and the machine in its words. Files of before have no quartiles."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for (*sizes, threads, mode), group in groupby(rows, itemgetter(*SIZES, "threads", "mode")):
        those = {row["contender"]: row for row in group}
        seconds = {name: float(row["seconds"]) for name, row in those.items()}
        spread = {
            name: (float(row["first_quartile"]), float(row["third_quartile"]))
            for name, row in those.items()
            if row["first_quartile"]
        }
        found.append(Measurement(Shape(*map(int, sizes)), int(threads), mode, seconds, spread))
    return found, re.sub(r"\d+ threads, ", "", rows[0]["machine"])
