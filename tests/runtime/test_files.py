"""Files of weights: what save writes is loaded, and what is none, cut or hostile is refused in words."""

import json
import re
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from safetensors.torch import save_file as save_tensors

import fastgru
from fastgru import runtime
from fastgru.common.errors import InputError


def weights(**options: Any) -> dict[str, Any]:
    return {n: p.detach().numpy() for n, p in torch.nn.GRU(3, 4, **options).named_parameters()}


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.ModuleDict(
            {"rnn": fastgru.GRU(3, 4, 2, reset_after=False, batch_first=True, zoneout=0.25)}
        )
        self.decoder = torch.nn.GRU(4, 5)
        self.cell = fastgru.GRUCell(4, 4, layer_norm=True)
        self.out = torch.nn.Linear(5, 2)
        self.tied = self.out


def test_a_module_is_saved_with_what_its_grus_are(tmp_path: Path) -> None:
    model = Model().eval()
    path = tmp_path / "model.safetensors"
    fastgru.save(model, path)
    other = Model()
    other.load_state_dict(load_file(path))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert repr(runtime.load(path, prefix="encoder.rnn.")) == (
        "GRU(3, 4, num_layers=2, batch_first=True, reset_after=False, zoneout=0.25, dtype=float32)"
    )
    assert repr(runtime.load(path, prefix="decoder.")) == "GRU(4, 5, num_layers=1, dtype=float32)"
    assert repr(runtime.load(path, prefix="cell.")) == "GRU(4, 4, num_layers=1, layer_norm=True, dtype=float32)"
    with pytest.raises(InputError, match=r"no weight_hh_l0; give prefix, of 'cell\.', 'decoder\.', 'encoder\.rnn\.'"):
        runtime.load(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_weights_that_are_computed_are_saved_as_they_are_now(tmp_path: Path) -> None:
    gru = fastgru.GRU(3, 4)
    torch.nn.utils.parametrizations.weight_norm(gru, "weight_hh_l0")
    fastgru.save(gru, tmp_path / "gru.safetensors")
    x = torch.randn(5, 2, 3)
    np.testing.assert_allclose(
        runtime.load(tmp_path / "gru.safetensors")(x.numpy())[0], gru(x)[0].detach().numpy(), atol=1e-6
    )


def test_npz_and_compressed_npz_are_read(tmp_path: Path) -> None:
    x = torch.randn(5, 2, 3).numpy()
    expected = runtime.GRU(weights_ := weights())(x)[0]
    for number, write in enumerate((np.savez, np.savez_compressed)):
        path = tmp_path / f"{number}.npz"
        write(path, **{f"rnn.{name}": value for name, value in weights_.items()})
        np.testing.assert_array_equal(runtime.load(path, prefix="rnn.")(x)[0], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_files_of_any_floating_dtype_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    gru = fastgru.GRU(3, 4).to(dtype)
    save_tensors({f"a.{name}": value for name, value in gru.state_dict().items()}, tmp_path / "gru.safetensors")
    x = torch.randn(5, 2, 3)
    loaded = runtime.load(tmp_path / "gru.safetensors", prefix="a.")
    wide = gru.double() if dtype == torch.float64 else gru.float()
    expected = wide(x.to(wide.weights()[0].dtype))[0].detach().numpy()
    assert loaded.dtype == expected.dtype
    np.testing.assert_allclose(loaded(x.numpy().astype(loaded.dtype))[0], expected, atol=1e-6)


def test_options_that_the_file_does_not_tell_are_given(tmp_path: Path) -> None:
    gru = fastgru.GRU(3, 4, reset_after=False)
    save_tensors(gru.state_dict(), tmp_path / "bare.safetensors")
    fastgru.save(gru, tmp_path / "told.safetensors")
    x = torch.randn(5, 2, 3)
    for given in ({"reset_after": False}, {"reset_after": False, "batch_first": False}):
        for name in ("bare", "told"):
            loaded = runtime.load(tmp_path / f"{name}.safetensors", **given)
            np.testing.assert_allclose(loaded(x.numpy())[0], gru(x)[0].detach().numpy(), atol=1e-6)
    with pytest.raises(InputError, match="it says reset_after=False, and reset_after=True was given: leave it out"):
        runtime.load(tmp_path / "told.safetensors", reset_after=True)
    with pytest.raises(InputError, match="it says batch_first=False, and batch_first=True was given"):
        runtime.load(tmp_path / "told.safetensors", batch_first=True)


def test_save_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Linear has no GRU or GRUCell in it"):
        fastgru.save(torch.nn.Linear(2, 2), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a file of weights ends in \.safetensors"):
        fastgru.save(fastgru.GRU(2, 2), tmp_path / "a.pt")
    with pytest.raises(TypeError, match=r"save takes a torch.nn.Module, got a OrderedDict"):
        fastgru.save(fastgru.GRU(2, 2).state_dict(), tmp_path / "a.safetensors")  # type: ignore[arg-type]
    assert not [*tmp_path.iterdir()]


def header(content: Any, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def npz(path: Path, name: str, shape: tuple[int, ...], data: bytes, dtype: str = "<f4") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array_header_2_0(member, {"shape": shape, "fortran_order": False, "descr": dtype})
        member.write(data)


HUGE = {"dtype": "F32", "shape": [60000, 20000], "data_offsets": [0, 4_800_000_000]}
SAFETENSORS = {
    "empty": b"",
    "text": b"weights, as promised",
    "a header beyond the file": struct.pack("<Q", 1 << 40),
    "no JSON": header(b"{"),
    "no object": header([1]),
    "a pickle": b"\x80\x02}q\x00.",
    "an array that the file has not": header({"weight_hh_l0": HUGE}, b"small"),
    "a shape that its bytes are not": header({"weight_hh_l0": {**HUGE, "data_offsets": [0, 8]}}, bytes(8)),
    "a shape beyond all numbers": header({"weight_hh_l0": {**HUGE, "shape": [2**62, 2**62]}}),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_a_file_that_is_none_is_refused_at_once(case: str, tmp_path: Path) -> None:
    path = tmp_path / "gru.safetensors"
    path.write_bytes(SAFETENSORS[case])
    start = time.process_time()
    with pytest.raises(InputError, match=re.escape(f"{path} cannot be read as weights (.safetensors or .npz): ")):
        runtime.load(path)
    assert time.process_time() - start < 0.5


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    for ending, write in ((".safetensors", lambda path: save_file(weights(), path)), (".npz", None)):
        whole = tmp_path / f"whole{ending}"
        write(whole) if write else np.savez(whole, **weights())
        content = whole.read_bytes()
        for size in range(0, len(content), 97):
            cut = tmp_path / f"cut{ending}"
            cut.write_bytes(content[:size])
            with pytest.raises(InputError, match="cut"):
                runtime.load(cut)


def test_an_npz_that_promises_more_than_it_holds_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "gru.npz"
    start = time.process_time()
    for shape, dtype in (((60000, 20000), "<f4"), ((2**40, 2**40), "<f4"), ((2,), "|O")):
        npz(path, "weight_hh_l0", shape, b"small", dtype)
        with pytest.raises(InputError, match="weight_hh_l0 is cut or no array of numbers"):
            runtime.load(path)
    assert time.process_time() - start < 0.5


def test_what_is_not_there_or_is_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as weights"):
        runtime.load(tmp_path / "none.safetensors")
    path = tmp_path / "other.npz"
    np.savez(path, labels=np.array(["a", "b"]))
    with pytest.raises(InputError, match=r"other.npz: there is no GRU under ''"):
        runtime.load(path)
    torch.save({"a": 1}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="cannot be read as weights"):
        runtime.load(tmp_path / "a.pt")


def test_weights_that_are_not_finite_and_options_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "gru.safetensors"
    save_file({**weights(), "bias_hh_l0": np.full(12, np.nan, "f4")}, path)
    with pytest.raises(InputError, match=r"gru.safetensors: bias_hh_l0 holds numbers that are not finite"):
        runtime.load(path)
    for key, value in (("reset_after", "perhaps"), ("zoneout", "2.0"), ("dropout", "0.5"), ("layer_norm", "1.0")):
        save_file(weights(), path, {f"fastgru.{key}": value})
        with pytest.raises(InputError, match=key):
            runtime.load(path)
