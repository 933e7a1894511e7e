"""What batches of like length, and a budget of tokens, save in training: `python -m benchmarks.batches`.

CPU seconds of one thread for the training steps over all texts, the median of interleaved rounds, and the padding.
"""

import random
import statistics
import time

import torch

from fastgru.data.bucketing import Batching
from fastgru.data.labelled import LabelledTexts
from fastgru.data.reviews import load_reviews
from fastgru.data.tokenizer import train_tokenizer
from fastgru.models import TextClassifier, TextClassifierConfig
from fastgru.training.classify.batches import EncodedTexts

TEXTS, ROUNDS, BATCH = 2000, 3, 64


def skewed(texts: list[str]) -> list[str]:
    """Join neighbours so that lengths are log-normal: most texts short, a few of some hundred words."""
    draw = random.Random(0)
    return [" ".join(draw.choices(texts, k=1 + int(draw.lognormvariate(0, 1)))) for _ in texts]


def layouts(lengths: list[int]) -> dict[str, list[list[int]]]:
    """Give the batches that are compared; the budget is the mean of the batches of like length."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    near = Batching(BATCH).shuffled(lengths, generator)
    tokens = sum(len(rows) * max(lengths[row] for row in rows) for rows in near) // len(near)
    return {
        "random": [order[first : first + BATCH] for first in range(0, len(order), BATCH)],
        f"like length (--batch-size {BATCH})": near,
        f"token budget (--batch-tokens {tokens})": Batching(BATCH, tokens).shuffled(lengths, generator),
    }


def seconds(model: TextClassifier, rows: EncodedTexts, batches: list[list[int]]) -> float:
    """Train on the batches; returns the CPU's seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    begun = time.process_time()
    for batch in map(rows.__getitem__, batches):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch.steps, batch.lengths), batch.targets).backward()
        optimizer.step()
    return time.process_time() - begun


def main() -> None:
    """Print a table for each set of texts."""
    torch.set_num_threads(1)
    reviews = load_reviews().take(range(TEXTS))
    for name, texts in {"reviews": reviews.texts, "skewed": skewed(reviews.texts)}.items():
        tokenizer = train_tokenizer(texts)
        torch.manual_seed(0)
        model = TextClassifier(TextClassifierConfig(["negative", "positive"], tokenizer.get_vocab_size()), tokenizer)
        rows = EncodedTexts(LabelledTexts(texts, reviews.labels), model)
        print(f"{name}: {TEXTS} texts, {sum(rows.lengths) / TEXTS:.0f} tokens on the mean, {max(rows.lengths)} at most")
        times: dict[str, list[float]] = {}
        found = layouts(rows.lengths)
        for _ in range(ROUNDS):
            for layout, batches in found.items():
                times.setdefault(layout, []).append(seconds(model, rows, batches))
        for layout, batches in found.items():
            padded = sum(len(batch) * max(rows.lengths[row] for row in batch) for batch in batches)
            share = 1 - sum(rows.lengths) / padded
            print(f"| {layout} | {len(batches)} | {share:.0%} | {statistics.median(times[layout]):.2f} |")


if __name__ == "__main__":
    main()
