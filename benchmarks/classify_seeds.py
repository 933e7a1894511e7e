"""The classifier's accuracy on the movie reviews, over several seeds: `python -m benchmarks.classify_seeds`.

`--pooling max mean` compares such poolings, as `fastgru train classify --pooling` takes them, and `--precision bf16`
trains as that command's `--precision bf16` does.

Every seed trains with the command's own defaults on the same fixed split; the test part is looked at once, by the
model of the best validation epoch. Times are wall-clock, of the training alone.
"""

import argparse
import statistics
import time
from pathlib import Path

from rich.console import Console

from fastgru.data.labelled import LabelledTexts
from fastgru.data.texts import load_splits
from fastgru.models.text_classifier import TextClassifier
from fastgru.training.classify import ClassifyOptions
from fastgru.training.classify.measure import measure
from fastgru.training.run import train
from fastgru.training.run_folder import RunFolder


def main() -> None:
    """Train and measure seeds 0 to N - 1 of every pooling and print a table with their means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--pooling", nargs="+", default=[ClassifyOptions.pooling], help="default: the command's own")
    parser.add_argument("--precision", default=ClassifyOptions.precision, help="default: the command's own")
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"), help="folder for the runs")
    arguments = parser.parse_args()
    test = load_splits("reviews", "text", "label").test
    for pooling in arguments.pooling:
        given = {"pooling": pooling, "precision": arguments.precision}
        options = [ClassifyOptions(seed=seed, **given) for seed in range(arguments.seeds)]
        _print(pooling, [_one(one, arguments.out / f"{pooling}-{one.seed}", test) for one in options])


def _print(pooling: str, rows: list[tuple[float, float, float, float]]) -> None:
    print(f"pooling {pooling}\nseed  best epoch  validation    test     seconds")
    for seed, (epoch, validation, found, seconds) in enumerate(rows):
        print(f"{seed:4}  {epoch:10.0f}  {validation:10.4f}  {found:.4f}  {seconds:10.0f}")
    validation, found = (statistics.mean(row[place] for row in rows) for place in (1, 2))
    spread = statistics.stdev(row[2] for row in rows) if len(rows) > 1 else 0.0
    print(f"mean validation accuracy {validation:.4f}, mean test accuracy {found:.4f}, its deviation {spread:.4f}\n")


def _one(options: ClassifyOptions, out: Path, test: LabelledTexts) -> tuple[float, float, float, float]:
    started = time.perf_counter()
    history = train(options, RunFolder(out), Console(stderr=True), overwrite=True)
    seconds = time.perf_counter() - started
    found = measure(TextClassifier.from_pretrained(out), test, "the test part").accuracy
    return history.best["epoch"], history.best["validation_accuracy"], found, seconds


if __name__ == "__main__":
    main()
