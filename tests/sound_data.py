"""Sounds whose label can be heard: for the tests of data and commands."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


def tone(path: Path, pitch: float, *, rate: int = 16_000, seconds: float = 0.3, channels: int = 1) -> Path:
    """Write a sound of one pitch in Hz, with a little noise."""
    draw = np.random.default_rng(int(pitch))
    steps = np.arange(int(rate * seconds)) / rate
    wave = 0.3 * np.sin(2 * math.pi * pitch * steps) + 0.01 * draw.standard_normal(len(steps))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate)
    return path


def tones(folder: Path, **options: Any) -> Path:
    for number in range(10):
        tone(folder / "low" / f"{number}.wav", 200 + number, **options)
        tone(folder / "high" / f"{number}.wav", 2000 + number, **options)
    return folder
