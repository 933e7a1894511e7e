"""What C++ is given it checks: nothing that Python can pass ends the process. Each case has a process of its own."""

import textwrap

import forked
import pytest

FREED = "storage"  # ours: "... is larger than its storage, which was freed"; torch's: "out of bounds for storage"

START = """
import torch, fastgru, fastgru.ops
torch.manual_seed(0)
T, B, I, H = 5, 3, 4, 6
def raises(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), str(error)
    else:
        raise AssertionError(f"nothing was raised by {globals().get('name')}: {globals().get('value')!r}")
"""


def run(program: str) -> None:
    result = forked.run(START + textwrap.dedent(program))
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize("left", [0, 8])
def test_freed_memory_is_an_error_in_words(left: int) -> None:
    run(f"""
    words, left = {FREED!r}, {left}
    for name in ("x", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        for grad in (False, True):
            for steps in (1, 5):  # without gradients one step is native, and looks for memory alone
                if left and steps == 1 and not grad:
                    continue
                gru, x = fastgru.GRU(I, H), torch.randn(steps, 1, I)
                target = x if name == "x" else getattr(gru, name)
                target.untyped_storage().resize_(left)
                with torch.set_grad_enabled(grad):
                    raises(RuntimeError, words, lambda: gru(x))
    for name in ("x", "weight_hh_l0", "bias_hh_l0"):  # before backward
        gru, x = fastgru.GRU(I, H), torch.randn(T, B, I)
        y, _ = gru(x)
        (x if name == "x" else getattr(gru, name)).untyped_storage().resize_(left)
        raises(RuntimeError, words, lambda: y.sum().backward())
    for name in ("x", "weight_ih", "weight_hh", "bias_ih", "bias_hh"):  # a cell, whose step is native for B = 1
        for grad in (False, True):
            for batch in (1, 3):
                if left and batch == 1 and not grad:
                    continue
                cell, x = fastgru.GRUCell(I, H), torch.randn(batch, I)
                (x if name == "x" else getattr(cell, name)).untyped_storage().resize_(left)
                with torch.set_grad_enabled(grad):
                    raises(RuntimeError, words, lambda: cell(x))
    gru, x, state = fastgru.GRU(I, H), torch.randn(1, I), torch.randn(1, 1, H)
    state.untyped_storage().resize_(left)
    with torch.no_grad():
        if not left:
            raises(RuntimeError, words, lambda: gru.step(x, state))
    """)


def test_memory_freed_between_steps_is_an_error_in_words() -> None:
    run(f"""
    words, grad = {FREED!r}, torch.autograd.grad
    for name in ("x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        for when in ("step", "backward", "backward that is differentiated"):
            cell, x, h = fastgru.GRUCell(I, H), torch.randn(B, I), torch.randn(B, H)
            state = cell(torch.randn(B, I), torch.randn(B, H))  # the weights' memory is there
            loss = cell(torch.randn(B, I), cell(x, h)).sum()
            target = {{"x": x, "h": h}}[name] if name in ("x", "h") else getattr(cell, name)
            target.untyped_storage().resize_(0)
            if when == "step":
                raises(RuntimeError, words, lambda: cell(x, h))
            elif when == "backward":
                raises(RuntimeError, words, lambda: grad(loss, list(cell.parameters())))
            else:  # in torch's words
                raises(RuntimeError, "", lambda: grad(loss, list(cell.parameters()), create_graph=True))
    for name in ("weight_ih_l0", "weight_hh_l1", "bias_hh_l1_reverse"):
        gru, x = fastgru.GRU(I, H, 2, bidirectional=True), torch.randn(1, B, I)
        y, state = gru(x)
        y, _ = gru(x, state)
        getattr(gru, name).untyped_storage().resize_(0)
        raises(RuntimeError, words, lambda: gru(x, state))
        raises(RuntimeError, words, lambda: y.sum().backward())
    """)


def test_zero_tensors_compute_as_in_torch() -> None:
    run("""
    theirs, ours = torch.nn.GRU(I, H), fastgru.GRU(I, H)
    ours.load_state_dict(theirs.state_dict())
    for shape in ((T, B, I), (1, 1, I)):
        zero = torch._efficientzerotensor(shape)
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                for got, expected in zip(ours(zero), theirs(torch.zeros(shape)), strict=True):
                    torch.testing.assert_close(got, expected)
    names = dict(theirs.named_parameters())
    names["weight_hh_l0"] = torch._efficientzerotensor((3 * H, H))
    x = torch.randn(T, B, I, requires_grad=True)
    y, _ = torch.func.functional_call(ours, names, x)
    names["weight_hh_l0"] = torch.zeros(3 * H, H)
    expected, _ = torch.func.functional_call(theirs, names, x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x), torch.autograd.grad(expected.sum(), x))
    """)


def test_the_operators_check_what_they_are_given() -> None:
    run("""
    layer, backward = torch.ops.fastgru.layer, torch.ops.fastgru.layer_backward
    x, h0 = torch.randn(T, B, I), torch.randn(1, B, H)
    weights = [torch.randn(3 * H, I), torch.randn(3 * H, H), torch.randn(3 * H), torch.randn(3 * H)]
    good = dict(kernel="cpu", x=x, h0=h0, initial=None, weights=weights, batch_sizes=None, offsets=None, lengths=None,
                resets=None, recurrent=None, zoneout=None, bias=True, bidirectional=False, reset_after=True, keep=1.0,
                tbptt=0, layer_norm=False, reverse=False, memory="gates", bf16=False)
    y, h_n, saved = layer(**good, batch=B, save=True)
    wanted = [True, True, False] + 4 * [True]
    rest = dict(y=y, saved=saved, dy=torch.randn_like(y), dh_n=torch.randn_like(h_n), wanted=wanted)
    backward(**good, **rest)
    wrong = [
        ("x", x.double()), ("x", x[0]), ("x", x[..., :3]), ("x", x.to("meta")), ("x", x.long()), ("x", x.to_sparse()),
        ("x", x.half()), ("h0", h0[:, :2]), ("h0", h0[0]), ("h0", h0.double()), ("h0", torch.randn(1, B, H + 1)),
        ("weights", weights[:3]), ("weights", weights[:1]), ("weights", []), ("weights", [*weights, weights[3]]),
        ("weights", [weights[0], weights[1][:3], *weights[2:]]), ("weights", [weights[0][:1], *weights[1:]]),
        ("weights", [*weights[:3], weights[3][:1]]), ("weights", [w.double() for w in weights]),
        ("weights", [weights[0].to("meta"), *weights[1:]]), ("lengths", torch.full((400,), T)),
        ("lengths", torch.tensor([1, 2, T + 1])), ("lengths", torch.tensor([1, 2, -1])), ("lengths", torch.ones(B)),
        ("resets", torch.zeros(1, 1, dtype=torch.bool)), ("resets", torch.zeros(T, B)), ("keep", float("nan")),
        ("keep", 2.0), ("tbptt", -1), ("recurrent", torch.ones(1, B, H - 1)), ("zoneout", torch.ones(T, B, 2 * H)),
        ("bidirectional", True), ("bias", False), ("layer_norm", True), ("initial", torch.zeros(2, H)),
        ("kernel", "reference"), ("memory", "all"), ("batch_sizes", torch.tensor([B] * T)),
        ("offsets", torch.tensor([0, T])),
    ]
    for name, value in wrong:
        for call, others in ((layer, dict(batch=B, save=True)), (backward, rest)):
            raises(Exception, "", lambda: call(**{**good, name: value}, **others))
    wrong = [
        ("y", y[:1]), ("y", None), ("y", y.double()), ("saved", saved[:, :1]), ("saved", saved[..., :1]),
        ("saved", torch.empty(0)), ("dy", rest["dy"][:, :1]), ("dy", rest["dy"].double()), ("dh_n", h_n[..., :1]),
        ("wanted", [True] * 3), ("wanted", [True] * 9), ("wanted", []), ("saved", saved.to("meta")),
    ]
    for name, value in wrong:
        raises(Exception, "", lambda: backward(**good, **{**rest, name: value}))
    packed = {**good, "x": torch.randn(5, I), "h0": None}
    for sizes in ([3, 1], [1, 4], [5, 0], [2, 2, 2], [2**62, 2**62, 2**62], []):
        steps = {"batch_sizes": torch.tensor(sizes).long()}
        raises(Exception, "", lambda: layer(**{**packed, **steps}, batch=3, save=True))
    for offsets in ([0, 3], [1, 5], [0, 6], [0, 4, 2, 5], [5], []):
        steps = {"offsets": torch.tensor(offsets).long()}
        raises(Exception, "", lambda: layer(**{**packed, **steps}, batch=1, save=True))
    """)


@pytest.mark.parametrize("how", ["trace", "export", "make_fx", "frozen trace", "frozen export", "frozen make_fx"])
def test_programs_made_without_gradients_have_them_when_they_run(how: str) -> None:
    run(f"""
    import warnings
    from torch.fx.experimental.proxy_tensor import make_fx
    warnings.filterwarnings("ignore")
    frozen, way = {"frozen" in how}, {how.split()[-1]!r}
    theirs, ours = torch.nn.GRU(I, H, 2, bidirectional=True), fastgru.GRU(I, H, 2, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    for module in (theirs, ours):
        module.requires_grad_(not frozen)
    x = torch.randn(T, B, I)
    with torch.set_grad_enabled(frozen):
        if way == "trace":
            program = torch.jit.trace(ours, (x,))
        elif way == "export":
            program = torch.export.export(ours, (x,)).module()
        else:
            program = make_fx(ours)(x)
    x = torch.randn(T, B, I, requires_grad=True)
    (y, h_n), expected = program(x), theirs(x)
    torch.testing.assert_close((y, h_n), tuple(expected))
    cotangents = torch.randn_like(y), torch.randn_like(h_n)
    torch.testing.assert_close(
        torch.autograd.grad((y, h_n), x, cotangents), torch.autograd.grad(expected, x, cotangents)
    )
    if not frozen and way != "make_fx":  # make_fx holds the weights as constants
        y, _ = program(x)
        y.sum().backward()
        theirs(x)[0].sum().backward()
        for name, parameter in theirs.named_parameters():
            got = dict(program.named_parameters())[name].grad
            torch.testing.assert_close(got, parameter.grad)
    """)


def test_a_traced_module_passes_torchs_own_check() -> None:
    run("""
    import warnings
    warnings.filterwarnings("ignore")
    x = torch.randn(T, B, I)
    for module in (fastgru.GRU(I, H), fastgru.GRU(I, H).eval()):
        torch.jit.trace(module, (x,))
    torch.jit.trace(fastgru.GRUCell(I, H), (x[0], torch.zeros(B, H)))
    """)


def test_without_an_exchange_table_tensors_are_read_all_the_same() -> None:
    run("""
    gru, x = fastgru.GRU(I, H, 2, bidirectional=True), torch.randn(T, B, I, requires_grad=True)
    lengths = torch.tensor([5, 0, 2])
    def outcome():
        y, h_n = gru(x, lengths=lengths)
        with torch.no_grad():
            cell = gru(x[:1, :1])[0]
        return y, h_n, cell, *torch.autograd.grad(y.sum(), [x, *gru.parameters()])
    expected = outcome()
    fastgru._native.use_tensors(torch.Tensor, torch.nn.Parameter, torch.UntypedStorage, in_place=False)
    torch.testing.assert_close(outcome(), expected, rtol=0, atol=0)
    raises(RuntimeError, "no backend can serve", lambda: fastgru.GRU(I, H, backend="cpu")(x.to("meta")))
    layer = (gru._stack().variant, *[tuple([None] * n) for n in (4, 2)], x.to_sparse(), None, None, gru.weights(), None)
    raises(RuntimeError, "x must be a dense tensor", lambda: fastgru._native.forward(layer, True, 1))
    x.data.untyped_storage().resize_(8)
    raises(RuntimeError, "larger than its storage", lambda: gru(x))
    """)


def test_steps_check_what_they_are_given() -> None:
    run("""
    from fastgru._native import StepRecords, StepWeights
    cell, gru = fastgru.GRUCell(I, H), fastgru.GRU(I, H, 2, bidirectional=True)
    variant, weights = cell._stack().variant, [*cell.parameters()]
    two, all_weights = gru._stack().variant, gru.weights()
    good = dict(variant=variant, layers=1, weights=weights, is_cell=True)
    for name, value in (
        ("variant", None), ("variant", ()), ("variant", two), ("layers", 0), ("layers", -1), ("layers", 2),
        ("layers", 2**40), ("weights", []), ("weights", weights[:3]), ("weights", [*weights, weights[0]]),
        ("weights", [None] * 4),
    ):
        raises(Exception, "", lambda: StepWeights(**{**good, name: value}))
    raises(ValueError, "a cell has one layer", lambda: StepWeights(two, 2, all_weights, True))
    elsewhere = StepWeights(variant, 1, [weight.to("meta") for weight in weights], True)
    raises(ValueError, "dense tensors on the CPU", lambda: StepRecords(elsewhere))

    def steps(used, x, state, dy, dh_n):  # a step with right arguments, and what each wrong one in their place gives
        global name, value
        forward = dict(x=x, state=state, draw=None, threads=1)
        y, h_n, saved, _ = used.forward(**forward)
        wanted = [True] * (2 + len(used_weights))
        backward = dict(x=x, state=state, recurrent=None, zoneout=None, saved=saved, dy=dy, dh_n=dh_n, wanted=wanted,
                        records=None, threads=1)
        used.backward(**backward)
        many = x.repeat_interleave(600, dim=-2)
        wrong_state = [state[..., :1], state.double(), state.to("meta"), state[None, None], state.long()]
        for name, values in dict(
            x=[x.double(), x[..., :1], x.to("meta"), x.to_sparse(), x.long(), x[None, None], many],
            state=wrong_state, threads=[0, -1, 2**31], draw=[lambda: None, lambda: (), lambda: (x, x), lambda: (None,)],
        ).items():
            for value in values:
                try:
                    assert used.forward(**{**forward, name: value}) is None, (name, value)
                except (TypeError, ValueError, RuntimeError):
                    pass
        other = StepRecords(StepWeights(variant, 1, [*fastgru.GRUCell(I, H + 1).parameters()], True))
        for name, values in dict(
            x=[None, x.double(), x[..., :1], x.to("meta"), many], state=[None, *wrong_state][1:],
            saved=[None, saved[:-1], saved.double(), saved.to("meta"), torch.empty(0)], dh_n=wrong_state, dy=wrong_dy,
            recurrent=[x.double(), x[..., :1], torch.ones(1)], zoneout=[x.double(), torch.ones(1, 1, 1, 1)],
            wanted=[None, [], [True], [object()] * 2], records=[other, 1], threads=[0, -1],
        ).items():
            for value in values:
                raises(Exception, "", lambda: used.backward(**{**backward, name: value}))
        records = StepRecords(used)
        used.backward(**{**backward, "wanted": wanted[:2], "records": records})
        expected = used.backward(**backward)[2:]
        torch.testing.assert_close(records.finish(), expected)

    used_weights, wrong_dy = weights, [torch.ones(B, H + 1), torch.ones(1, B, H)]
    steps(StepWeights(**good), torch.randn(B, I), torch.randn(B, H), None, torch.randn(B, H))
    dy = torch.randn(1, B, 2 * H)
    used_weights, wrong_dy = all_weights, [dy[..., :1], dy.double(), dy[0, 0], dy.to("meta")]
    steps(StepWeights(two, 2, all_weights, False), torch.randn(1, B, I), torch.randn(4, B, H), dy, torch.randn(4, B, H))
    """)


def test_second_derivatives_of_steps_check_what_they_are_given() -> None:
    run("""
    from fastgru._native import StepWeights
    for gru, x, state in (
        (fastgru.GRUCell(I, H), torch.randn(B, I), torch.randn(B, H)),
        (fastgru.GRUCell(I, H), torch.randn(I), torch.randn(H)),
        (fastgru.GRU(I, H, bidirectional=True), torch.randn(1, B, I), torch.randn(2, B, H)),
    ):
        is_cell, weights = isinstance(gru, fastgru.GRUCell), [*gru.parameters()]
        used = StepWeights(gru._stack().variant, 1, weights, is_cell)
        y, h_n, saved, _ = used.forward(x=x, state=state, draw=None, threads=1)
        tangents = [x, state, *weights]
        good = dict(x=x, state=state, saved=saved, dy=y, dh_n=h_n, cotangents=tangents,
                    wanted=[True] * (4 + len(weights)), threads=1)
        expected = used.double_backward(**good)
        assert [None if t is None else t.shape for t in expected] == [
            None if y is None else y.shape, h_n.shape, *[t.shape for t in tangents]
        ]
        wrong_x = [x.double(), x[..., :1], x.to("meta"), x.to_sparse(), x.long(), x[None, None], torch.empty(0)]
        wrong_state = [state[..., :1], state.double(), state.to("meta"), state[None, None], state.long(), 1]
        many = x.repeat_interleave(600, dim=-2) if x.ndim > 1 else x.expand(600, I)
        wrong_tangents = [[], tangents[:-1], [*tangents, None], [object()] * len(tangents)]
        for i, tangent in enumerate(tangents):
            for other in (tangent.double(), tangent[..., :1], tangent.to("meta"), tangent[None, None], 1):
                wrong_tangents.append([*tangents[:i], other, *tangents[i + 1:]])
        for name, values in dict(
            x=[None, *wrong_x, many], state=[None, *wrong_state], dh_n=wrong_state, cotangents=wrong_tangents,
            dy=[x[..., :1], state.double(), torch.ones(7)], saved=[None, saved[:-1], saved.double(), saved.to("meta")],
            wanted=[None, [], [True] * 3, [object()] * len(good["wanted"])], threads=[0, -1, 2**31],
        ).items():
            for value in values:  # refused in words, or left to another way
                try:
                    assert used.double_backward(**{**good, name: value}) is None, (name, value)
                except (TypeError, ValueError, RuntimeError):
                    pass
        assert used.double_backward(**{**good, "dy": None, "dh_n": None}) is None
        for name in ("x", "state", "saved", "dh_n"):
            freed = good[name].clone()
            freed.untyped_storage().resize_(0)
            raises(RuntimeError, "larger than its storage", lambda: used.double_backward(**{**good, name: freed}))
        found = used.double_backward(**good)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        with torch.no_grad():
            weights[1].mul_(2)
        raises(RuntimeError, "modified by an inplace operation", lambda: used.double_backward(**good))
    for options in (dict(reset_after=False), dict(layer_norm=True), dict(zoneout=0.5)):
        cell = fastgru.GRUCell(I, H, **options).eval()
        weights, x, state = [*cell.parameters()], torch.randn(B, I), torch.randn(B, H)
        used = StepWeights(cell._stack().variant, 1, weights, True)
        _, h_n, saved, _ = used.forward(x=x, state=state, draw=None, threads=1)
        assert used.double_backward(x, state, saved, None, h_n, [x, *[None] * (1 + len(weights))],
                                    [True] * (4 + len(weights)), 1) is None
    """)
