"""Programs of published packages as they stand, by `python` and by `fastgru run`: `python -m benchmarks.programs`.

Each trains a model of its package in a few lines, as its documentation shows it, seeded, and prints what it predicts.
Both ways run in turns, in processes of their own; the figures are medians of whole processes, imports included. What is
printed must agree; a package that is not installed is left out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from fastgru.cli.benchmark import machine

# Each ends by printing numbers as one line of JSON.
PROGRAMS = {
    "darts": """
        import json, numpy, pandas
        from darts import TimeSeries
        from darts.models import RNNModel
        days = pandas.date_range("2000-01-01", periods=400, freq="D")
        series = TimeSeries.from_times_and_values(days, numpy.sin(numpy.arange(400) / 7).astype("float32"))
        model = RNNModel(
            model="GRU", hidden_dim=20, batch_size=16, n_epochs=10, training_length=20, input_chunk_length=14,
            random_state=42, pl_trainer_kwargs={"accelerator": "cpu", "enable_progress_bar": False},
        )
        model.fit(series)
        print(json.dumps(model.predict(6).values().ravel().tolist()))
    """,
    "pypots": """
        import json, numpy, torch
        from pypots.classification import GRUD
        torch.manual_seed(0)
        draw = numpy.random.default_rng(0)
        x, y = draw.normal(size=(256, 48, 12)).astype("float32"), draw.integers(0, 2, 256)
        x[draw.random(x.shape) < 0.2] = numpy.nan
        model = GRUD(
            n_steps=48, n_features=12, rnn_hidden_size=64, n_classes=2, epochs=3, batch_size=32, device="cpu"
        )
        model.fit({"X": x, "y": y})
        print(json.dumps(model.predict({"X": x})["classification_proba"].ravel().tolist()))
    """,
    "pytorch_forecasting": """
        import json, lightning.pytorch, numpy, pandas
        from pytorch_forecasting import RecurrentNetwork, TimeSeriesDataSet
        lightning.pytorch.seed_everything(0)
        days = numpy.arange(400)
        table = pandas.DataFrame({"day": days, "series": "a", "value": numpy.sin(days / 7).astype("float32")})
        data = TimeSeriesDataSet(
            table, time_idx="day", target="value", group_ids=["series"], max_encoder_length=60,
            max_prediction_length=20, time_varying_unknown_reals=["value"],
        )
        model = RecurrentNetwork.from_dataset(data, cell_type="GRU", hidden_size=64, rnn_layers=2)
        quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
        trainer = lightning.pytorch.Trainer(max_epochs=3, enable_checkpointing=False, **quiet)
        trainer.fit(model, data.to_dataloader(train=True, batch_size=32))
        found = model.predict(data.to_dataloader(train=False, batch_size=32), trainer_kwargs=quiet)
        print(json.dumps(found.ravel().tolist()))
    """,
    "sktime": """
        import json, torch
        from sktime.classification.deep_learning.gru import GRUClassifier
        from sktime.datasets import load_basic_motions
        torch.manual_seed(0)
        x, y = load_basic_motions(split="train", return_X_y=True)
        model = GRUClassifier(hidden_dim=64, n_layers=2, num_epochs=20, random_state=0)
        model.fit(x, y)
        print(json.dumps(model.predict_proba(x).ravel().tolist()))
    """,
}
WAYS = {"python": [], "fastgru run": ["-m", "fastgru", "run"]}


def run(way: str, program: Path) -> tuple[float, list[float], str]:
    """The seconds of a whole process, the numbers that it printed last, and what fastgru said at its end."""
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, *WAYS[way], program], cwd=program.parent, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if ended.returncode:
        raise RuntimeError(f"by {way} it ended with {ended.returncode}:\n{ended.stderr}")
    return seconds, json.loads(ended.stdout.splitlines()[-1]), ended.stderr.rpartition("fastgru: ")[2].strip()


def difference(ours: list[float], theirs: list[float]) -> float:
    """The largest, over the largest of the numbers."""
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / max(map(abs, theirs))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=[*PROGRAMS])
    options = parser.parse_args()
    print(f"{machine()}. Seconds of whole processes, medians of {options.rounds} rounds.\n")
    print("| program | python | fastgru run | faster | difference | served |\n|--|--:|--:|--:|--:|--|")
    for name in options.only:
        if find_spec(name) is None:
            print(f"| {name} | not installed |")
            continue
        with TemporaryDirectory() as folder:
            program = Path(folder, "program.py")
            lines = PROGRAMS[name].strip("\n").splitlines()
            program.write_text("\n".join(line[8:] for line in lines))
            rounds = [{way: run(way, program) for way in WAYS} for _ in range(options.rounds)]
        before, after = (statistics.median(each[way][0] for each in rounds) for way in WAYS)
        (_, theirs, _), (_, ours, served) = rounds[-1].values()
        served = served.removeprefix("torch.nn.GRU and GRUCell: ")
        figures = f"{before:.1f} | {after:.1f} | {before / after:.2f} | {difference(ours, theirs):.0e}"
        print(f"| {name} | {figures} | {served} |", flush=True)


if __name__ == "__main__":
    main()
