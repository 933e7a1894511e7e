"""Masks: their probabilities and means, and the same ones for a seed in every mode of torch."""

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from fastgru.core import noise
from fastgru.core.spec import GRUSpec
from fastgru.core.steps import PLAIN

T, B, W = 40, 50, 103  # 206000 elements, not four to a row


def zoneout(x: Tensor, p: float = 0.3) -> Tensor:
    mask = noise.draw(GRUSpec(1, x.size(-1), training=True, zoneout=p), x.size(-1), x, PLAIN).zoneout
    assert mask is not None
    return mask


def recurrent(x: Tensor, p: float) -> Tensor:
    mask = noise.draw(GRUSpec(1, W, training=True, recurrent_dropout=p), W, x, PLAIN).recurrent
    assert mask is not None
    return mask


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9])
def test_a_mask_has_its_probability_wherever_one_looks(p: float) -> None:
    mask = zoneout(torch.empty(T, B, W), p)
    assert mask.shape == (T, B, W)
    assert set(mask.unique().tolist()) == {0, 1}
    for part in [mask, *(mask[..., place::4] for place in range(4)), mask[::2], mask[..., -1]]:
        deviation = (p * (1 - p) / part.numel()) ** 0.5
        assert abs(part.mean().item() - (1 - p)) < 4.5 * deviation
    for one, other in ((mask[..., 0:-4:4], mask[..., 1:-3:4]), (mask[:-1], mask[1:]), (mask[:, :-1], mask[:, 1:])):
        assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 4.5 / one.numel() ** 0.5


@pytest.mark.parametrize(("p", "factor"), [(0.5, 2), (0.1, 2**16 / 58982), (1 - 1e-9, 2**16), (1e-9, 1 + 1 / 65535)])
def test_factors_have_mean_one(p: float, factor: float) -> None:
    mask = recurrent(torch.empty(1, 600, 1, dtype=torch.float64), p)
    assert set(mask.unique().tolist()) <= {0, factor}
    kept = round(2**16 / factor)
    assert kept * factor == pytest.approx(2**16, rel=1e-12)
    assert abs(kept / 2**16 - (1 - p)) <= 2**-16


def test_probabilities_of_one_keep_nothing() -> None:
    x = torch.empty(T, B, W)
    assert not zoneout(x, 1.0).any()
    assert not recurrent(x, 1.0).any()


@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_masks_of_any_width(width: int) -> None:
    assert zoneout(torch.empty(3, 2, width)).shape == (3, 2, width)


def test_a_seed_gives_the_same_masks_in_a_compiled_function() -> None:
    x = torch.empty(T, B, W)
    expected = []
    for function in (zoneout, torch.compile(zoneout, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(3)
        expected.append(function(x))
    assert torch.equal(*expected)


def test_vmap_draws_as_it_is_told() -> None:
    x = torch.empty(3, T, B, W)
    torch.manual_seed(3)
    same = vmap(zoneout, randomness="same")(x)
    torch.manual_seed(3)
    assert torch.equal(same, zoneout(x[0]).expand(3, -1, -1, -1))
    different = vmap(zoneout, randomness="different")(x)
    assert different.shape == x.shape
    assert not torch.equal(different[0], different[1])
    with pytest.raises(RuntimeError, match="random operation"):
        vmap(zoneout)(x)


def test_w_hh_alone_is_dropped() -> None:
    spec = GRUSpec(3, 40, bidirectional=True, training=True, weight_dropout=0.5)
    weights = [torch.ones(shape, requires_grad=True) for shape in spec.weight_shapes]
    dropped = noise.drop_weights(spec, weights)
    for index, (before, after) in enumerate(zip(weights, dropped, strict=True)):
        assert (after is before) == (index not in (1, 5))
    assert set(dropped[1].unique().tolist()) == {0, 2}
    assert not torch.equal(dropped[1], dropped[5])
