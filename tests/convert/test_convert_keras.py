"""fastgru.convert's Keras weights against Keras itself, on its torch backend."""

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import torch
from grid import B, H, I, T

import fastgru
from fastgru.common.errors import InputError
from fastgru.convert import from_keras, to_keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")  # Keras's own


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        return import_module("keras")


def layer(keras: ModuleType, bidirectional: bool, features: int = I, **options: object) -> object:
    """A built Keras layer of random weights and biases."""
    made = keras.layers.GRU(H, return_sequences=True, **options)
    made = keras.layers.Bidirectional(made) if bidirectional else made
    made.build((None, None, features))
    made.set_weights([0.5 * torch.randn(array.shape).numpy() for array in made.get_weights()])
    return made


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("as_layers", [True, False], ids=["layers", "arrays"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_from_keras_gives_keras_numbers(
    keras: ModuleType, bias: bool, bidirectional: bool, as_layers: bool, reset_after: bool
) -> None:
    if not (reset_after or as_layers or bias):
        pytest.skip("bare weights without a bias do not tell the form")
    width = 2 * H if bidirectional else H
    options = {"use_bias": bias, "reset_after": reset_after}
    stack = [layer(keras, bidirectional, features, **options) for features in (I, width)]
    gru = from_keras(*(stack if as_layers else [each.get_weights() for each in stack]))
    assert (gru.num_layers, gru.bias, gru.bidirectional, gru.batch_first) == (2, bias, bidirectional, True)
    assert gru.reset_after is reset_after
    x = torch.randn(B, T, I)
    with torch.no_grad():
        expected = stack[1](stack[0](x))
        torch.testing.assert_close(gru(x)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_to_keras_gives_our_numbers(keras: ModuleType, bias: bool, bidirectional: bool, reset_after: bool) -> None:
    gru = fastgru.GRU(I, H, 2, bias=bias, batch_first=True, bidirectional=bidirectional, reset_after=reset_after)
    y = x = torch.randn(B, T, I)
    with torch.no_grad():
        for weights in to_keras(gru):
            theirs = layer(keras, bidirectional, y.size(-1), use_bias=bias, reset_after=reset_after)
            theirs.set_weights(weights)
            y = theirs(y)
        torch.testing.assert_close(y, gru(x)[0], rtol=0, atol=1e-6)


def test_a_keras_cell_and_ours_hold_the_same(keras: ModuleType) -> None:
    theirs = keras.layers.GRUCell(H, bias_initializer="random_normal")
    theirs.build((None, I))
    gru = from_keras(theirs)
    cell = fastgru.GRUCell(I, H)
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in gru.state_dict().items()})
    x, h = torch.randn(B, I), torch.randn(B, H)
    with torch.no_grad():
        torch.testing.assert_close(cell(x, h), theirs(x, [h])[0], rtol=0, atol=1e-6)
    for got, expected in zip(to_keras(cell)[0], theirs.get_weights(), strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "relu"}, "activation must be 'tanh', got 'relu'"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation must be 'sigmoid', got 'hard_sigmoid'"),
    ],
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_keras_layers_that_compute_something_else_are_refused(
    keras: ModuleType, bidirectional: bool, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=f"layer 0: {words}"):
        from_keras(layer(keras, bidirectional, **options))


def test_keras_layers_in_another_direction_are_refused(keras: ModuleType) -> None:
    with pytest.raises(InputError, match="go_backwards must be False, got True"):
        from_keras(layer(keras, False, go_backwards=True))
    summed = keras.layers.Bidirectional(keras.layers.GRU(H), merge_mode="sum")
    with pytest.raises(InputError, match="merge_mode must be 'concat', got 'sum'"):
        from_keras(summed)
    other = keras.layers.Bidirectional(
        keras.layers.GRU(H), backward_layer=keras.layers.GRU(H, activation="relu", go_backwards=True)
    )
    with pytest.raises(InputError, match="activation must be 'tanh', got 'relu'"):
        from_keras(other)
    with pytest.raises(InputError, match="expected a keras GRU, GRUCell or Bidirectional, got 'dense"):
        from_keras(keras.layers.Dense(3))
    with pytest.raises(InputError, match="expected a keras GRU, GRUCell or Bidirectional, got 'forward_lstm"):
        from_keras(keras.layers.Bidirectional(keras.layers.LSTM(3)))
    with pytest.raises(InputError, match="layer 0 has no weights yet"):
        from_keras(keras.layers.GRU(3))


def arrays(*shapes: tuple[int, ...], dtype: type = np.float32) -> list[np.ndarray]:
    return [np.zeros(shape, dtype) for shape in shapes]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "expected the weights of at least one layer, got none"),
        ([arrays((2, 9))], "layer 0: expected 2 or 3 arrays .* got 1"),
        ([arrays((2, 9), (3, 9), (8,))], r"layer 0: bias must have the shape \(9,\), got \(8,\)"),
        ([arrays((2, 9), (3, 9), (9,)), arrays((3, 9), (3, 9), (2, 9))], "layers of one reset_after, got both"),
        ([arrays((2, 9), (3, 9), (2, 8))], r"layer 0: bias must have the shape \(2, 9\), got \(2, 8\)"),
        ([arrays((9, 2), (3, 9))], r"layer 0: kernel must have the shape \(any, 9\), got \(9, 2\)"),
        ([arrays((2, 9), (3, 3))], r"layer 0: recurrent_kernel must have the shape \(3, 9\)"),
        ([arrays((2, 9), (9,))], r"layer 0: recurrent_kernel must have the shape \(any, any\), got \(9,\)"),
        ([arrays((2, 9), (3, 9), dtype=np.int64)], "recurrent_kernel must be float16, float32 or float64, got int64"),
        ([arrays((2, 9), (3, 9)), arrays((2, 9), (3, 9))], "layer 1 must have weights and biases of the shapes"),
        ([arrays((2, 9), (3, 9)), arrays((3, 9), (3, 9), (2, 9))], "layer 1 must have weights and biases"),
        ([arrays((2, 9), (3, 9)), arrays((3, 9), (3, 9), dtype=np.float64)], "one dtype, got float32 and float64"),
        ([arrays((2, 9), (3, 9)), 2 * arrays((3, 9), (3, 9))], "all Bidirectional or all not, got both"),
    ],
)
def test_keras_arrays_that_do_not_fit_are_refused(layers: list[list[np.ndarray]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_keras(*layers)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_keras_weights_there_and_back_are_exact(dtype: torch.dtype, bias: bool, bidirectional: bool) -> None:
    gru = fastgru.GRU(I, H, 3, bias=bias, bidirectional=bidirectional, dtype=dtype)
    back = from_keras(*to_keras(gru), batch_first=False)
    assert repr(back) == repr(gru)
    for name, weight in gru.state_dict().items():
        assert torch.equal(back.state_dict()[name], weight), name
