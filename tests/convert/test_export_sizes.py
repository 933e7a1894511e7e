"""Which sizes of a model's inputs are open in its ONNX file, and which of them are one."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
import torch.nn.functional as F
from onnx_files import B, H, I, T, check, operators_listed_once  # noqa: F401
from torch import Tensor
from torch.export import Dim

import fastgru
from fastgru.convert.sizes import Axis, Groups, tied

torch.manual_seed(0)
X, LENGTHS = torch.randn(B, T, I), torch.tensor([T, 2, 1])
MASK = torch.arange(T) < LENGTHS[:, None]
LABELS = torch.tensor([2, 0, 1])


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = torch.nn.GRU(I, H, batch_first=True), torch.nn.Linear(H, 3)

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return y.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, -1, H)).squeeze(1)


class Gathered(Model):
    """The last real step, as RecBole takes it."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.last(x, lengths)


class Indexed(Model):
    """The last real step by an index of the batch."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return y[torch.arange(x.shape[0]), lengths - 1]


class Masked(Model):
    """The last real step where a mask says which that is, and a mean over the real ones."""

    def forward(self, x: Tensor, mask: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.gru(x)
        return self.last(x, mask.sum(1)), (y * mask[..., None]).sum(1) / lengths[:, None]


class Chosen(Model):
    """The score of a given label, and the loss."""

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.out(self.gru(x)[1][-1])
        return scores.gather(1, labels[:, None]), F.cross_entropy(scores, labels)


class Continued(Model):
    """From a state on."""

    def forward(self, x: Tensor, state: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.gru(x, state)
        return y.gather(1, (lengths - 1)[:, None, None].repeat(1, 1, H)), state


class Padded(Model):
    """fastgru's own mask, which must have no holes."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = fastgru.GRU(I, H, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.gru(x, mask=mask)[1]


class Towers(Model):
    """Two batches that have nothing to do with each other."""

    def forward(self, a: Tensor, b: Tensor, of_a: Tensor, of_b: Tensor) -> Tensor:
        return self.last(a, of_a) @ self.last(b, of_b).T


SIZES: dict[str, tuple[type, tuple[Tensor, ...], Any, dict[str, list[int | str]]]] = {
    "gather": (Gathered, (X, LENGTHS), None, {"x": ["x_0", "x_1", I], "lengths": ["x_0"]}),
    "gather, as many steps as sequences": (
        *(Gathered, (X[:, :B], LENGTHS.clamp(max=B)), None),
        {"x": ["x_0", "x_1", I], "lengths": ["x_0"]},
    ),
    "gather, one name": (
        *(Gathered, (X, LENGTHS), {"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}),
        {"x": ["batch", "time", I], "lengths": ["batch"]},
    ),
    "gather, two names": (
        *(Gathered, (X, LENGTHS), ({0: "batch"}, {0: "sequences"})),
        {"x": ["batch", T, I], "lengths": ["sequences"]},
    ),
    "arange": (
        *(Indexed, (X, LENGTHS), {"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}),
        {"x": ["batch", "time", I], "lengths": ["batch"]},
    ),
    "mask and lengths": (
        *(Masked, (X, MASK, LENGTHS), None),
        {"x": ["x_0", "x_1", I], "mask": ["x_0", "x_1"], "lengths": ["x_0"]},
    ),
    "labels": (Chosen, (X, LABELS), None, {"x": ["x_0", "x_1", I], "labels": ["x_0"]}),
    "state": (
        *(Continued, (X, torch.randn(1, B, H), LENGTHS), [["B", "T", None], {1: "B"}, ["B"]]),
        {"x": ["B", "T", I], "state": [1, "B", H], "lengths": ["B"]},
    ),
    "fastgru's mask": (Padded, (X, MASK), None, {"x": ["x_0", "x_1", I], "mask": ["x_0", "x_1"]}),
    "two towers": (
        *(Towers, (X, torch.randn(B, T, I), LENGTHS, LENGTHS.clone()), None),
        {"a": ["a_0", "a_1", I], "b": ["b_0", "b_1", I], "of_a": ["a_0"], "of_b": ["b_0"]},
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_are_one_have_one_name_and_the_file_takes_others(name: str, tmp_path: Path) -> None:
    kind, given, dynamic_shapes, expected = SIZES[name]
    model, path = kind().eval(), tmp_path / "model.onnx"
    assert fastgru.export_onnx(model, path, given, dynamic_shapes=dynamic_shapes) == expected
    sizes = dict(zip(["x_0", "batch", "sequences", "B", "a_0", "b_0"], [6, 6, 6, 6, 6, 4], strict=True))

    def enlarge(tensor: Tensor, shape: Sequence[int | str]) -> Tensor:
        for dim, size in enumerate(shape):
            if isinstance(size, str):
                wanted = sizes.get(size, T + 2)
                tensor = tensor.index_select(dim, torch.arange(wanted).clamp(max=tensor.size(dim) - 1))
        return tensor

    check(path, model, *map(enlarge, given, expected.values()))


class Fixed(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0].reshape(B, -1)


class Counted(Model):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.gru(x)[0][torch.arange(len(lengths)), lengths - 1]


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (Fixed, (X,), "calls size 0 of 'x' 'batch', and the model takes 3 there alone: a reshape to a number"),
        (Counted, (X, LENGTHS), r"calls size 0 of 'lengths' 'batch', .* 3 there alone: .*len\(tensor\)"),
        (Gathered, (X[:1], LENGTHS[:1]), "takes 1 there alone: give an example where it is 2 or more"),
    ],
)
def test_a_name_for_a_size_that_the_model_fixes_is_refused(
    kind: type, given: tuple[Tensor, ...], words: str, tmp_path: Path
) -> None:
    shapes = ({0: "batch"},) * len(given)
    with pytest.raises(ValueError, match=words):
        fastgru.export_onnx(kind(), tmp_path / "model.onnx", given, dynamic_shapes=shapes)
    assert not any(tmp_path.iterdir())


class Placed(Model):
    """With an embedding of T places, and more than tensors as its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.places = torch.nn.Embedding(T, I)

    def forward(self, x: Tensor, scale: float, other: Tensor) -> Tensor:
        return scale * self.gru(x + self.places(torch.arange(x.shape[1])))[0] + other


def test_a_size_that_the_model_bounds_is_bounded_or_refused(tmp_path: Path) -> None:
    given, path = (X, 2.0, torch.randn(1, 1, H)), tmp_path / "model.onnx"
    with pytest.raises(ValueError, match=r"the model takes no inputs of \[4, 7, 4\], .*index out of range") as raised:
        fastgru.export_onnx(Placed(), path, given, dynamic_shapes=({0: "B", 1: "T"}, None, None))
    assert isinstance(raised.value.__cause__, IndexError)
    shapes = fastgru.export_onnx(Placed(), path, given, dynamic_shapes=({0: "B", 1: Dim("T", max=T)}, None, None))
    assert shapes == {"x": ["B", "T", I], "other": [1, 1, H]}


@pytest.mark.parametrize(
    "truth", ["abc", "aab", "aaa", "aabb", "abab", "aaabbb", "aabbcc", "abcabc"], ids=lambda truth: f"{truth}"
)
def test_as_few_sizes_are_tied_as_will_do(truth: str) -> None:
    """Symbols of one size in the example, of which those with one letter must be equal; and one of another size."""
    symbols = sympy.symbols(f"s:{len(truth)}")
    axes = [Axis(number, f"x{number}", 0, symbol, None) for number, symbol in enumerate((*symbols, sympy.Symbol("t")))]
    attempts = count()

    def refusal(groups: Groups) -> Exception | None:
        next(attempts)
        size = {symbol: number for number, group in enumerate(groups) for symbol in group}
        differ = any(
            size[one] != size[other]
            for one, of_one in zip(symbols, truth, strict=True)
            for other, of_other in zip(symbols, truth, strict=True)
            if of_one == of_other
        )
        return ValueError("sizes differ") if differ else None

    found = tied(axes, [*[torch.empty(3)] * len(truth), torch.empty(5)], refusal)
    expected = {frozenset(s for s, its in zip(symbols, truth, strict=True) if its == letter) for letter in truth}
    assert {*found} == expected | {frozenset({sympy.Symbol("t")})}
    assert next(attempts) < 50
