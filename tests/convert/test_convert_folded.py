"""fastgru.convert's Flax, Equinox and MLX arrays against the frameworks themselves."""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import torch
from grid import B, H, I, T
from torch import nn

import fastgru
from fastgru import convert
from fastgru.common.errors import InputError

FRAMEWORKS = ["equinox", "flax", "mlx"]
FROM = {name: getattr(convert, f"from_{name}") for name in FRAMEWORKS}
TO = {name: getattr(convert, f"to_{name}") for name in FRAMEWORKS}


@pytest.fixture(scope="module")
def jax() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        return import_module("jax")


def equinox_y(cell: object, x: np.ndarray) -> np.ndarray:
    """[T, H] of an Equinox cell from a zero state for x [T, I]."""
    import jax

    def step(h: jax.Array, x_t: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = cell(x_t, h)
        return h, h

    return np.asarray(jax.lax.scan(step, jax.numpy.zeros(H), x)[1])


@pytest.mark.parametrize("as_mapping", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_from_equinox_gives_equinox_numbers(jax: ModuleType, bias: bool, as_mapping: bool) -> None:
    equinox = import_module("equinox")
    cells = [equinox.nn.GRUCell(width, H, bias, key=jax.random.key(width)) for width in (I, H)]
    gru = convert.from_equinox(*(vars(cell) if as_mapping else cell for cell in cells))
    assert (gru.num_layers, gru.bias, gru.batch_first) == (2, bias, False)
    x = torch.randn(T, I)
    expected = equinox_y(cells[1], equinox_y(cells[0], x.numpy()))
    np.testing.assert_allclose(gru(x)[0].detach(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_to_equinox_gives_our_numbers(jax: ModuleType, bias: bool) -> None:
    equinox = import_module("equinox")
    gru, x = fastgru.GRU(I, H, 2, bias), torch.randn(T, I)
    y = x.numpy()
    for arrays in convert.to_equinox(gru):
        cell = equinox.nn.GRUCell(y.shape[1], H, bias, key=jax.random.key(0))
        cell = equinox.tree_at(lambda c, names=tuple(arrays): [getattr(c, n) for n in names], cell, [*arrays.values()])
        y = equinox_y(cell, y)
    np.testing.assert_allclose(gru(x)[0].detach(), y, rtol=0, atol=1e-6)


def test_flax_both_ways_give_the_same_numbers(jax: ModuleType) -> None:
    linen = import_module("flax.linen")
    layer, x = linen.RNN(linen.GRUCell(H)), torch.randn(B, T, I)
    params = layer.init(jax.random.key(0), x.numpy())["params"]["cell"]
    params = jax.tree.map(lambda array: 0.5 * torch.randn(array.shape).numpy(), params)  # Flax's own biases are 0
    expected = np.asarray(layer.apply({"params": {"cell": params}}, x.numpy()))
    gru = convert.from_flax(params)
    assert gru.batch_first
    np.testing.assert_allclose(gru(x)[0].detach(), expected, rtol=0, atol=1e-6)
    y = x.numpy()
    deep = fastgru.GRU(I, H, 2, batch_first=True)
    for arrays in convert.to_flax(deep):
        y = np.asarray(layer.apply({"params": {"cell": arrays}}, y))
    np.testing.assert_allclose(deep(x)[0].detach(), y, rtol=0, atol=1e-6)


def test_flax_params_without_biases_are_zeros() -> None:
    gru, x = fastgru.GRU(I, H, bias=False, batch_first=True), torch.randn(B, T, I)
    back = convert.from_flax(*convert.to_flax(gru))
    assert back.bias
    torch.testing.assert_close(back(x), gru(x), rtol=0, atol=0)


@pytest.mark.parametrize("bias", [False, True])
def test_mlx_both_ways_give_the_same_numbers(bias: bool) -> None:
    mx, mlx = import_module("mlx.core"), import_module("mlx.nn")
    layers = [mlx.GRU(I, H, bias), mlx.GRU(H, H, bias)]
    gru, x = convert.from_mlx(*layers), torch.randn(B, T, I)
    assert (gru.num_layers, gru.bias, gru.batch_first) == (2, bias, True)
    expected = np.asarray(layers[1](layers[0](mx.array(x.numpy()))))
    np.testing.assert_allclose(gru(x)[0].detach(), expected, rtol=0, atol=1e-6)
    ours = fastgru.GRU(I, H, 2, bias, batch_first=True)
    y = mx.array(x.numpy())
    for layer, arrays in zip(layers, convert.to_mlx(ours), strict=True):
        layer.update({name: mx.array(array) for name, array in arrays.items()})
        y = layer(y)
    np.testing.assert_allclose(ours(x)[0].detach(), np.asarray(y), rtol=0, atol=1e-6)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_there_and_back_keeps_weights_and_folds_biases(framework: str, dtype: torch.dtype, bidirectional: bool) -> None:
    gru = fastgru.GRU(I, H, 2, batch_first=True, bidirectional=bidirectional, dtype=dtype)
    back = FROM[framework](*TO[framework](gru), bidirectional=bidirectional, batch_first=True)
    assert repr(back) == repr(gru)
    for name, weight in gru.state_dict().items():
        if name.startswith("weight"):
            expected = weight
        elif name.startswith("bias_ih"):
            other = gru.state_dict()[name.replace("ih", "hh")]
            expected = weight + torch.cat([other[: 2 * H], torch.zeros(H, dtype=dtype)])
        else:
            expected = torch.cat([torch.zeros(2 * H, dtype=dtype), weight[2 * H :]])
        assert torch.equal(back.state_dict()[name], expected), name
    again = FROM[framework](*TO[framework](back), bidirectional=bidirectional, batch_first=True)
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in back.state_dict().items())


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("make", [nn.GRU, nn.GRUCell, fastgru.GRUCell])
def test_torchs_layers_and_cells_are_taken_too(make: Callable[..., nn.Module], framework: str) -> None:
    layer = make(I, H, dtype=torch.float64)
    gru, x = FROM[framework](*TO[framework](layer), batch_first=False), torch.randn(1, B, I, dtype=torch.float64)
    expected = layer(x[0]) if isinstance(layer, nn.RNNCellBase) else layer(x)[0][0]
    torch.testing.assert_close(gru(x)[0][0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_given_shares_no_memory_with_what_comes(framework: str) -> None:
    gru = fastgru.GRU(I, H)
    before = gru.weight_hh_l0.clone()
    arrays = TO[framework](gru)
    back = FROM[framework](*arrays)
    leaves = [leaf for value in arrays[0].values() for leaf in (value.values() if isinstance(value, dict) else [value])]
    for leaf in leaves:
        leaf[:] = 7
    assert torch.equal(gru.weight_hh_l0, before)
    assert torch.equal(back.weight_hh_l0, before)


def test_a_conversion_draws_no_random_numbers() -> None:
    arrays = convert.to_mlx(fastgru.GRU(I, H))
    state = torch.get_rng_state()
    convert.from_mlx(*arrays)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_no_gru_is_refused(framework: str) -> None:
    with pytest.raises(TypeError, match=r"expected a GRU or GRUCell, of fastgru or torch\.nn, got LSTM"):
        TO[framework](nn.LSTM(I, H))
    with pytest.raises(InputError, match="weight_ih_l0 must be float16, float32 or float64, got bfloat16; convert it"):
        TO[framework](fastgru.GRU(I, H, dtype=torch.bfloat16))
    with pytest.raises(InputError, match="expected the weights of at least one layer, got none"):
        FROM[framework]()
    with pytest.raises(InputError, match=r"expected .* missing, got a list"):
        FROM[framework]([1, 2])
    with pytest.raises(InputError, match="expected a forward and a reverse direction for each layer, got 1 in all"):
        FROM[framework](*TO[framework](fastgru.GRU(I, H)), bidirectional=True)
    with pytest.raises(InputError, match="layer 1 must have weights and biases of the shapes"):
        FROM[framework](*2 * TO[framework](fastgru.GRU(I, H)))


def changed(framework: str, **changes: object) -> dict[str, object]:
    """The arrays of a layer, some replaced; None removes one."""
    arrays = {**TO[framework](fastgru.GRU(I, H))[0], **changes}
    return {name: value for name, value in arrays.items() if value is not None}


@pytest.mark.parametrize(
    ("framework", "changes", "words"),
    [
        (
            "equinox",
            {"weight_hh": None},
            "expected an equinox.nn.GRUCell .*: weight_hh missing, got the keys weight_ih",
        ),
        ("equinox", {"bias_n": None}, "with both bias and bias_n or neither, got only one"),
        ("equinox", {"bias": np.zeros(3, "f")}, r"bias must have the shape \(18,\), got \(3,\)"),
        ("equinox", {"weight_hh": np.zeros((18, 6), "i")}, "weight_hh must be float16, .* got int32; convert it first"),
        ("mlx", {"Wx": None, "b": None}, r"expected an mlx.nn.GRU .*: Wx missing, got the keys Wh, bhn"),
        ("mlx", {"b": None}, "with both b and bhn or neither"),
        ("mlx", {"Wh": np.zeros((17, 6), "f")}, r"Wh must have the shape \(18, 6\), got \(17, 6\)"),
        ("mlx", {"Wx": np.zeros((4, 18), "f")}, r"Wx must have the shape \(18, any\), got \(4, 18\)"),
        ("mlx", {"Wx": np.zeros((18, 4))}, "expected weights of one dtype, got float32 and float64"),
        ("flax", {"hn": None}, "expected the params of a flax.linen.GRUCell: hn missing, got the keys ir"),
        ("flax", {"hr": {"kernel": np.zeros((6, 6), "f"), "bias": 0}}, "hr must have kernel, got kernel, bias"),
        ("flax", {"ir": {"kernel": np.zeros((4, 6), "f")}}, "ir must have kernel and bias, got kernel"),
        ("flax", {"in": {}}, "flax.linen.GRUCell, in: kernel missing"),
        ("flax", {"hz": {"kernel": np.zeros((4, 6), "f")}}, r"hz.kernel must have the shape \(6, 6\), got \(4, 6\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(framework: str, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        FROM[framework](changed(framework, **changes))
