"""Small sets of data that can be learnt, one for each task: for the tests of models, training and commands."""

import random
from pathlib import Path

import numpy as np

GOOD, BAD, OTHER = ["fine", "warm", "lovely"], ["dull", "flat", "awful"], ["the", "film", "is", "and", "a", "story"]


def write_reviews(path: Path, count: int = 120, seed: int = 0) -> str:
    """Write `count` made-up reviews with the columns text and label into the CSV file at `path`."""
    draw = random.Random(seed)
    lines = ["text,label"]
    for number in range(count):
        words = [*draw.choices(OTHER, k=draw.randint(1, 9)), draw.choice(BAD if number % 2 else GOOD)]
        draw.shuffle(words)
        lines.append(f"{' '.join(words)} {number},{'bad' if number % 2 else 'good'}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def write_pairs(path: Path, count: int = 120, seed: int = 0) -> str:
    """Write `count` made-up words and what they become, letter by letter, into the CSV file at `path`."""
    draw = random.Random(seed)
    words = sorted({"".join(draw.choices("abcde", k=draw.randint(2, 8))) for _ in range(count)})
    lines = ["source,target", *(f"{word},{' '.join(word.upper())}" for word in words)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def write_signals(path: Path, count: int = 120, seed: int = 0) -> str:
    """Write `count` rising and falling sequences of two features into the .npz file at `path`."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(3, 12, count)
    labels = ["up" if number % 2 else "down" for number in range(count)]
    x = np.zeros((count, max(lengths), 2), dtype=np.float32)
    for row, (length, label) in enumerate(zip(lengths, labels, strict=True)):
        slope = np.linspace(-1, 1, length)[:, None] * (1 if label == "up" else -1)
        x[row, :length] = slope + draw.normal(0, 0.3, (length, 2))
    np.savez(path, x=x, lengths=lengths, labels=np.array(labels))
    return str(path)
