"""Ten words that espeak-ng speaks, told apart for voices never heard in training: `python -m benchmarks.spoken_words`.

Needs espeak-ng (Debian: espeak-ng). Every word is spoken by 12 voices to train on and 6 others to test on, British,
American and Scottish men and women, at four speeds: 480 and 240 files of 22,050 Hz, in folders named by word.

`--few`: trained on one or two American voices alone, and tested on all others, with and without what the command does
for new voices.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from fastgru.data.signals import read_labelled_signals
from fastgru.models import SequenceClassifier
from fastgru.training.run import train
from fastgru.training.run_folder import RunFolder
from fastgru.training.signals import SignalsOptions
from fastgru.training.signals.measure import measure_signals

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SPEEDS = (120, 150, 180, 210)  # words a minute
ACCENTS = ("en-us", "en-gb", "en-gb-scotland")
PEOPLE = {"train": ("m1", "m3", "f1", "f2"), "test": ("m7", "f4")}
FEW = (("m1",), ("f2",), ("m2", "m7"), ("f1", "f4"))
MANY = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")
HELP = {
    "nothing": {"centred": False, "warp": 0.0, "tempo": 0.0},
    "centred": {"centred": True, "warp": 0.0, "tempo": 0.0},
    "warp and tempo": {"centred": False},
    "the defaults: all three": {},
    "and masks": {"masks": 1},
}


def speak(folder: Path, people: Iterable[str], accents: tuple[str, ...] = ACCENTS) -> None:
    """Write `folder/WORD/VOICE-SPEED.wav` for every word, voice and speed."""
    for word in WORDS:
        (folder / word).mkdir(parents=True, exist_ok=True)
        for voice in (f"{accent}+{person}" for accent in accents for person in people):
            for speed in SPEEDS:
                file = folder / word / f"{voice}-{speed}.wav"
                subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-w", str(file), word], check=True)


def main() -> None:
    """Speak, train and measure some seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("runs/spoken-words"), help="folder for sounds and runs")
    parser.add_argument("--few", action="store_true", help="train on one or two voices, in several ways")
    arguments = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not installed (Debian: apt-get install espeak-ng)")
    if arguments.few:
        compare(arguments.out / "few", arguments.seeds)
        return
    for part, people in PEOPLE.items():
        speak(arguments.out / part, people)
    data, test = (arguments.out / part for part in PEOPLE)
    for seed in range(arguments.seeds):
        started = time.perf_counter()
        found = accuracy(data, test, arguments.out / f"run-{seed}", seed=seed)
        print(f"seed {seed}: {found:.4f}, trained and measured in {time.perf_counter() - started:.0f} s", flush=True)


def accuracy(data: Path, test: Path, out: Path, **options: Any) -> float:
    """Train with the command's defaults but for `options`, and give the share of `test` that is told right."""
    train(
        SignalsOptions(data=str(data), test=str(test), **options), RunFolder(out), Console(quiet=True), overwrite=True
    )
    model = SequenceClassifier.from_pretrained(out)
    return measure_signals(model, read_labelled_signals(str(test), model.config.features), str(test)).accuracy


def compare(out: Path, seeds: int) -> None:
    """Train on few voices in every way of HELP, and print how many words of all others are told."""
    for number, people in enumerate(FEW):
        speak(out / f"train-{number}", people, ("en-us",))
        speak(out / f"test-{number}", set(MANY) - set(people), ("en-us",))
    print("trained on".ljust(26), *("+".join(people).rjust(8) for people in FEW))
    for name, options in HELP.items():
        shown = []
        for number in range(len(FEW)):
            sounds = out / f"train-{number}", out / f"test-{number}"
            found = [accuracy(*sounds, out / "run", seed=seed, **options) for seed in range(seeds)]
            shown.append(f"{sum(found) / seeds:8.3f}")
        print(name.ljust(26), *shown, flush=True)


if __name__ == "__main__":
    main()
