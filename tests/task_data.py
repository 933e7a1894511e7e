"""A small set of texts whose label can be learnt: for the tests of models, training and commands."""

import random
from pathlib import Path

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
