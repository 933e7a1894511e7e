"""What the classifier's page quotes of its parts: `python -m benchmarks.classifier runs/reviews`.

Lengths beside packing and unpacking on the reviews' own batches, interleaved, forward and backward; what integrated
gradients of 50 reviews of the test part leave over, by the points of their sum; and the accuracy on the test part with
the GRU in int8, and with all matrices in int8, beside float32. It exits with 1 where one loses more than MOST_LOST.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastgru import GRU, quantize
from fastgru.data.bucketing import Batching
from fastgru.data.labelled import LabelledTexts
from fastgru.data.texts import load_splits
from fastgru.models import TextClassifier, attribution

BATCHES, TEXTS = 60, 50
MOST_LOST = 0.002  # of the accuracy, by int8
I, H, B = 200, 64, 64  # noqa: E741


def main() -> None:
    """Measure both on one thread and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="folder of a run on the reviews")
    model = TextClassifier.from_pretrained(parser.parse_args().run)
    torch.set_num_threads(1)
    splits = load_splits("reviews", "text", "label")
    packed, given = _packing([len(ids) for ids in model.encode(splits.train.texts)])
    print(f"I={I} H={H} B={B}, {BATCHES} batches: packed {packed:.2f} s, lengths {given:.2f} s ({given / packed:.2f})")
    print("points  median gap  largest gap  ms a text")
    for points in (16, 32, 64, 128):
        _attribution(model, splits.test.texts[:TEXTS], points)
    if _quantized(model, splits.test) > MOST_LOST:
        sys.exit(f"SHORT: int8 loses more than {MOST_LOST:.1%} of the accuracy")


def _packing(lengths: list[int]) -> tuple[float, float]:
    gru = GRU(I, H, batch_first=True, bidirectional=True)

    def packed(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, h_n = gru(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return pad_packed_sequence(y, batch_first=True)[0], h_n

    def given(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return gru(x, lengths=lengths)

    seconds = {packed: 0.0, given: 0.0}
    for rows in Batching(B).shuffled(lengths, torch.Generator().manual_seed(0))[:BATCHES]:
        steps = torch.tensor([lengths[row] for row in rows])
        x = torch.randn(len(rows), int(steps.max()), I, requires_grad=True)
        outputs = []
        for way in seconds:
            started = time.perf_counter()
            y, h_n = way(x, steps)
            (y.sum() + h_n.sum()).backward()
            seconds[way] += time.perf_counter() - started
            outputs.append(y)
        if not torch.equal(*outputs):
            raise AssertionError("packing and lengths differ")
    return seconds[packed], seconds[given]


def _attribution(model: TextClassifier, texts: list[str], points: int) -> None:
    attribution.POINTS = attribution.MOST_POINTS = points
    started = time.perf_counter()
    gaps = [abs(one.gap) for one in attribution.attribute(model, texts)]
    each = (time.perf_counter() - started) / len(texts) * 1e3
    print(f"{points:6}  {statistics.median(gaps):10.5f}  {max(gaps):11.5f}  {each:9.1f}")


def _quantized(model: TextClassifier, rows: LabelledTexts) -> float:
    """Print what int8 does to the answers; gives what is lost of the accuracy at most."""
    kinds = {"float32": model, "int8": quantize(model), "int8, all matrices": quantize(model, matrices="int8")}
    told = {name: [one.label for one in kind.predict(rows.texts)] for name, kind in kinds.items()}
    right = {name: _share(labels, rows.labels) for name, labels in told.items()}
    print(f"{len(rows):,} reviews     accuracy  as float32")
    for name, labels in told.items():
        print(f"{name:18}  {right[name]:.2%}    {_share(labels, told['float32']):.2%}")
    return right["float32"] - min(right.values())


def _share(labels: list[str], others: Sequence[str]) -> float:
    return sum(one == other for one, other in zip(labels, others, strict=True)) / len(labels)


if __name__ == "__main__":
    main()
