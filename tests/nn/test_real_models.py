"""Published models that hold GRUs, before and after fastgru.accelerate, and the benchmark that times them."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fastgru
from benchmarks import real_models
from benchmarks.real_models import Case, Comparison

SWAPPED = {"attentive_fp": ("gru", "atom_grus.0", "mol_gru"), "re_net": ("sub_gru", "obj_gru")}
SMALL: dict[str, Callable[[], Case]] = {
    "attentive_fp": lambda: real_models.attentive_fp(molecules=3),
    "re_net": lambda: real_models.re_net(batch=4, nodes=50),
}


def in_float64(case: Case) -> Case:
    inputs = [each.double() if isinstance(each, Tensor) and each.is_floating_point() else each for each in case.inputs]
    return Case(case.name, case.sizes, case.model.double(), tuple(inputs))


@pytest.mark.parametrize("name", SMALL)
def test_a_published_model_computes_and_learns_the_same(name: str) -> None:
    before = in_float64(SMALL[name]())
    after = Case(before.name, before.sizes, copy.deepcopy(before.model), before.inputs)
    assert fastgru.accelerate(after.model).swapped == SWAPPED[name]
    for case in (before, after):
        case.model.train()
        torch.manual_seed(1)
        optimizer = torch.optim.Adam(case.model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            sum(output.square().sum() for output in case.outputs()).backward()
            optimizer.step()
    for expected, got in zip(before.model.parameters(), after.model.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_the_comparison_times_both_and_makes_a_table() -> None:
    done = real_models.compare(SMALL["attentive_fp"](), seconds=0.01)
    assert (done.swapped, list(done.seconds)) == (3, ["infer", "train"])
    assert done.difference < 1e-5
    shown = Comparison("m", "H=2", 1, 2e-7, {"infer": (4e-3, 2e-3), "train": (3e-3, 4e-3)})
    assert real_models.table([shown]).splitlines()[2] == (
        "| m | 1 | H=2 | 4.0 → 2.0 (2.00x) | 3.0 → 4.0 (0.75x) | 2e-07 |"
    )


def test_a_model_that_computes_something_else_is_not_timed() -> None:
    before, after = (Case("layer", "", nn.Linear(2, 2), (torch.ones(1, 2),)) for _ in range(2))
    with pytest.raises(RuntimeError, match="layer computes something else after the swap: relative difference"):
        real_models.check(before, after)
