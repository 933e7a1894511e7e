"""torch's private names are there and mean what they meant: a test for each, so that a new torch breaks here."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

import fastgru
from fastgru.core import torch_internals as internals


@pytest.mark.parametrize("name", internals.RNN_BASE)
def test_rnn_base_has_what_gru_uses(name: str) -> None:
    assert hasattr(torch.nn.GRU(2, 3), name)


def test_tensors_have_what_the_native_module_calls() -> None:
    assert hasattr(torch.Tensor, "__dlpack_c_exchange_api__") or internals.torch_lacks()
    assert torch._efficientzerotensor((2,))._is_zerotensor()
    assert not torch.zeros(2)._is_zerotensor()


def test_any_requires_grad_takes_none_among_tensors() -> None:
    leaf = torch.zeros(2, requires_grad=True)
    assert internals.any_requires_grad(None, torch.zeros(2), leaf)
    assert not internals.any_requires_grad(None, torch.zeros(2))


def test_is_any_autocast_enabled() -> None:
    assert not internals.is_any_autocast_enabled()
    with torch.autocast("cpu", torch.bfloat16):
        assert internals.is_any_autocast_enabled()
        assert not internals.is_plain()


def test_is_profiled() -> None:
    assert not internals.is_profiled()
    with torch.profiler.profile():
        assert internals.is_profiled()
        assert internals.is_traced()


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
def test_count_dispatch_modes_and_tracing_state() -> None:
    seen = []

    def traced(x: torch.Tensor) -> torch.Tensor:
        seen.append((internals.count_dispatch_modes(), internals.tracing_state() is not None, internals.is_traced()))
        return x + 1

    make_fx(traced)(torch.zeros(2))
    torch.jit.trace(traced, torch.zeros(2), check_trace=False)
    assert seen[0][0] > 0
    assert seen[1][1]
    assert seen[0][2]
    assert seen[1][2]
    assert internals.count_dispatch_modes() == 0
    assert internals.is_plain()


def test_transforms_and_what_they_wrap() -> None:
    def inside(x: torch.Tensor) -> torch.Tensor:
        assert internals.are_transforms_active()
        assert internals.is_vmapped()
        assert internals.is_batchedtensor(x)
        assert internals.is_functorch_wrapped_tensor(x)
        assert not internals.is_plain()
        return x

    torch.func.vmap(inside)(torch.zeros(2, 3))
    assert not internals.are_transforms_active()
    assert not internals.transforms()
    assert not internals.is_vmapped()


def test_is_legacy_batchedtensor() -> None:
    found = []

    class Seen(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: object, dy: torch.Tensor) -> torch.Tensor:
            found.append(internals.is_legacy_batchedtensor(dy))
            return dy

    x = torch.zeros(3, requires_grad=True)
    torch.autograd.grad(Seen.apply(x), x, torch.eye(3), is_grads_batched=True)
    torch.autograd.grad(Seen.apply(x), x, torch.ones(3))
    assert found == [True, False]


def test_forward_mode() -> None:
    assert not internals.is_forward_mode()
    with forward_ad.dual_level():
        assert internals.is_forward_mode()
        assert not internals.is_plain()
        assert not internals.has_batched_tangents([torch.zeros(2)])


def test_fake_tensors_are_of_their_class() -> None:
    with torch._subclasses.fake_tensor.FakeTensorMode():
        assert type(torch.zeros(2)) is internals.FakeTensor


def test_ragged_dimension() -> None:
    nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(1, 3)], layout=torch.jagged)
    assert internals.ragged_dimension(nested) == 1


def test_direct_apply_is_apply() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: object, dy: torch.Tensor) -> torch.Tensor:
            return 2 * dy

    x = torch.ones(2, requires_grad=True)
    y = internals.direct_apply(Double)(x)
    assert torch.equal(y, Double.apply(x))
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.full((2,), 2.0))


def test_backward_passes_have_numbers_and_an_end() -> None:
    x = torch.ones(2, requires_grad=True)
    doubled = 2 * x
    loss = doubled.sum()
    happened: list[object] = []

    def note(_: torch.Tensor) -> None:
        happened.append(internals.backward_pass())
        internals.at_end_of_backward(lambda: happened.append("end"))

    doubled.register_hook(note)
    for _ in range(2):
        loss.backward(retain_graph=True)
    first, end, second, _ = happened
    assert end == "end"
    assert 0 <= first < second  # type: ignore[operator]
    assert internals.backward_pass() == -1


def test_what_is_to_be_called_at_the_end_is_dropped_where_a_pass_fails() -> None:
    x = torch.ones(2, requires_grad=True)
    happened: list[str] = []

    class Guard:
        def __call__(self) -> None:
            happened.append("called")

        def __del__(self) -> None:
            happened.append("dropped")

    def fail(_: torch.Tensor) -> None:
        internals.at_end_of_backward(Guard())
        raise ValueError("no further")

    x.register_hook(fail)
    with pytest.raises(ValueError, match="no further"):
        x.sum().backward()
    assert happened == ["dropped"]


def test_will_execute() -> None:
    x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    made = w * 1
    node, answers = made.grad_fn, []
    assert node is not None
    y = x * made
    y.register_hook(lambda _: answers.append(internals.will_execute(node)))
    torch.autograd.grad(y.sum(), x, retain_graph=True)
    torch.autograd.grad(y.sum(), w)
    assert answers == [False, True]


def test_are_last_inputs_wanted() -> None:
    answers = []

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, *factors: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
            answers.append([*internals.are_last_inputs_wanted(ctx, 3)])
            return dy, dy, dy, None  # type: ignore[return-value]

    x, w, fixed = (torch.ones(2, requires_grad=grad) for grad in (True, True, False))
    made = Product.apply(x, w, w * 2, fixed)  # type: ignore[no-untyped-call]
    y = made.sum()
    torch.autograd.grad(y, x, retain_graph=True)
    y.backward(retain_graph=True)
    assert answers == [[False, False, False], [True, True, False]]
    torch.autograd.grad(y, w, retain_graph=True)  # a leaf that is asked for: torch tells no more of any
    assert answers[-1] == [True, True, False]
    assert internals.are_last_inputs_wanted(made.grad_fn, 3) == (True, True, False)  # where no pass runs


def test_the_operator_is_redispatched_below_autograd() -> None:
    keyset = torch._C._dispatch_keys(torch.zeros(2, requires_grad=True))
    assert keyset.has(torch._C.DispatchKey.AutogradCPU)
    assert not (keyset & internals.after_autograd).has(torch._C.DispatchKey.AutogradCPU)
    x = torch.ones(2, requires_grad=True)
    with internals.below_autograd():
        assert not (x * 2).requires_grad


def test_saved_beside_output() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            y = x * 2
            ctx.version = y._version
            ctx.save_for_backward(y, None, x)
            return y

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Tensor:
            seen.append([None if t is None else t.tolist() for t in internals.saved_beside_output(ctx, ctx.version)])
            return dy

    seen: list[list[Any]] = []
    x = torch.ones(2, requires_grad=True)
    Doubled.apply(x).sum().backward()  # type: ignore[no-untyped-call]
    Doubled.apply(x).zero_().sum().backward()  # type: ignore[no-untyped-call]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y = Doubled.apply(x)  # type: ignore[no-untyped-call]
    y.zero_().sum().backward()
    assert seen == [[[2, 2], None, [1, 1]], [None, None, [1, 1]], [[2, 2], None, [1, 1]]]


def test_private_names_stand_in_one_file() -> None:
    from pathlib import Path

    source = Path(fastgru.__file__).parent
    words = ("_raw_saved", "torch._C", "torch._subclasses", "torch._functorch", "forward_ad._")
    holders = {path.name for path in source.rglob("*.py") if any(word in path.read_text() for word in words)}
    assert holders == {"torch_internals.py"}


def test_is_fully_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.fsdp._fully_shard import _fully_shard as module

    monkeypatch.setattr(module, "cls_to_fsdp_cls", {})
    assert not internals.is_fully_sharded()
    module.cls_to_fsdp_cls[torch.nn.Linear] = torch.nn.Linear
    assert internals.is_fully_sharded()
