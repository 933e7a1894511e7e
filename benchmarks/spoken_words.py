"""Ten words that espeak-ng speaks, told apart for voices never heard in training: `python -m benchmarks.spoken_words`.

Needs espeak-ng (Debian: espeak-ng). Every word is spoken by 12 voices to train on and 6 others to test on, British,
American and Scottish men and women, at four speeds: 480 and 240 files of 22,050 Hz, in folders named by word.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

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


def speak(folder: Path, people: tuple[str, ...], accents: tuple[str, ...] = ACCENTS) -> None:
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
    arguments = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not installed (Debian: apt-get install espeak-ng)")
    for part, people in PEOPLE.items():
        speak(arguments.out / part, people)
    data, test = (str(arguments.out / part) for part in PEOPLE)
    for seed in range(arguments.seeds):
        started = time.perf_counter()
        options = SignalsOptions(seed=seed, data=data, test=test)
        train(options, RunFolder(arguments.out / f"run-{seed}"), Console(quiet=True), overwrite=True)
        seconds = time.perf_counter() - started
        model = SequenceClassifier.from_pretrained(arguments.out / f"run-{seed}")
        found = measure_signals(model, read_labelled_signals(test, model.config.features), test)
        print(f"seed {seed}: {found.accuracy:.4f} of {found.count} words, trained in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
