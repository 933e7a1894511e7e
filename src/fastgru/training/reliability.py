"""What a classifier's probabilities are worth: how often it is right where it is so sure, and a picture of that."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

BINS = 15


@dataclass(frozen=True)
class Bin:
    """The rows whose likeliest label has a probability from `low` (excluded) to `high`.

    `count`: of them. `confidence`: the mean of these probabilities; `accuracy`: how often that label is right. Both are
    0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability_bins(probabilities: Tensor, rights: Tensor) -> list[Bin]:
    """Give BINS of equal width. `probabilities [N, C]`; `rights [N] int64`: the index of the right label."""
    confidence, likeliest = probabilities.max(1)
    right = (likeliest == rights).to(probabilities)
    places = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    counts = places.bincount(minlength=BINS)
    sums = [places.bincount(values, minlength=BINS) / counts.clamp(min=1) for values in (confidence, right)]
    columns = (counts.tolist(), sums[0].tolist(), sums[1].tolist())
    return [Bin(place / BINS, (place + 1) / BINS, *row) for place, row in enumerate(zip(*columns, strict=True))]


def calibration_error(bins: list[Bin]) -> float:
    """Give the expected calibration error: the mean over all rows of |accuracy - confidence| of their bin.

    Naeini et al. 2015 (Obtaining Well Calibrated Probabilities Using Bayesian Binning), in Guo et al. 2017
    (arXiv:1706.04599, equation 3), for the likeliest label of each row.
    """
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total


def draw_reliability(bins: list[Bin], title: str, path: Path) -> None:
    """Draw accuracy by probability, beside the line of who is as often right as sure; below, how many rows."""
    # Figure, not pyplot: no display, no global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    there = [one for one in bins if one.count]
    width = bins[0].high - bins[0].low
    edges = [one.low for one in there]
    upper.bar(edges, [one.accuracy for one in there], width, align="edge", edgecolor="white", label="right")
    upper.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="as often as sure")
    places = [one.confidence for one in there]
    upper.plot(places, [one.accuracy for one in there], "o", color="black", markersize=4, label="mean probability")
    upper.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(loc="upper left")
    lower.bar(edges, [one.count for one in there], width, align="edge", edgecolor="white", color="grey")
    lower.set(xlabel="probability of the likeliest label", ylabel="rows")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.suptitle(title, fontsize="medium", parse_math=False)
    figure.savefig(path, dpi=120)
