"""The accuracy on the Japanese vowels' standard test part, over several seeds: `python -m benchmarks.signals_seeds`.

Every seed trains with the command's own defaults; the test part is looked at once. Times are wall-clock, of the
training alone. `--data FILE_TRAIN.ts --test FILE_TEST.ts` measures another data set so, `--precision bf16` training in
bfloat16.
"""

import argparse
import statistics
import time
from pathlib import Path

from rich.console import Console

from fastgru.data.signals import load_signals
from fastgru.models import SequenceClassifier
from fastgru.training.run import train
from fastgru.training.run_folder import RunFolder
from fastgru.training.signals import SignalsOptions
from fastgru.training.signals.measure import measure_signals


def main() -> None:
    """Train and measure seeds 0 to N - 1 and print a table with their mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    parser.add_argument("--data", default="vowels", help="default: vowels")
    parser.add_argument("--test", help="where the data is not the vowels")
    parser.add_argument("--precision", default=SignalsOptions.precision, help="default: the command's own")
    parser.add_argument("--out", type=Path, default=Path("runs/signals-seeds"), help="folder for the runs")
    arguments = parser.parse_args()
    test, found = load_signals(arguments.data, arguments.test).test, []
    print("seed  best epoch  test accuracy  seconds")
    for seed in range(arguments.seeds):
        started = time.perf_counter()
        given = {"data": arguments.data, "test": arguments.test, "precision": arguments.precision}
        options = SignalsOptions(seed=seed, **given)
        history = train(options, RunFolder(arguments.out / str(seed)), Console(quiet=True), overwrite=True)
        seconds = time.perf_counter() - started
        model = SequenceClassifier.from_pretrained(arguments.out / str(seed))
        found.append(measure_signals(model, test, "the test part").accuracy)
        print(f"{seed:4}  {history.best['epoch']:10.0f}  {found[-1]:13.4f}  {seconds:7.0f}", flush=True)
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    print(f"mean {statistics.mean(found):.4f}, deviation {spread:.4f}, {len(test)} sequences")


if __name__ == "__main__":
    main()
