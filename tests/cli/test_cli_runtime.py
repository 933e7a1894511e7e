"""`fastgru predict --runtime`: what `fastgru predict` prints and writes, and nothing of torch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_text_model import TEXTS, build
from typer.testing import CliRunner, Result

from fastgru.cli import app
from fastgru.inference.tokens import source_tokenizer, target_tokenizer
from fastgru.models import Seq2Seq, Seq2SeqConfig, SequenceClassifier, SequenceClassifierConfig

GIVEN: dict[str, list[str]] = {
    "text": TEXTS,
    "text, as JSON": [*TEXTS, "--json"],
    "moves": ["one.npy", "two.npy"],
    "words": ["cab", "a", "--best", "3"],
    "words, as JSON": ["cab", "a", "--beam", "1", "--json"],
    "words, together": ["cab", "a", "--ensemble", "others"],
}
WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning", "torchmetrics", "huggingface_hub"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from fastgru.__main__ import main
main()
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of each kind, and what they answer to."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    build().save_pretrained(folder / "text")
    SequenceClassifier(SequenceClassifierConfig(["a", "b"], input_size=3)).save_pretrained(folder / "moves")
    tokens = source_tokenizer("characters", "abc", fold=True), target_tokenizer("words", ["X", "Y", "Z"])
    for name in ("words", "others"):
        model = Seq2Seq(Seq2SeqConfig(6, 7, encoder_size=8, decoder_size=8), *tokens)
        for weight in model.parameters():
            torch.nn.init.normal_(weight)
        model.save_pretrained(folder / name)
    for number, name in enumerate(("one", "two"), start=5):
        np.save(folder / f"{name}.npy", np.random.default_rng(number).normal(size=(number, 3)))
    pq.write_table(pa.table({"text": TEXTS, "number": range(len(TEXTS))}), folder / "texts.parquet")
    return folder


def parsed(line: str) -> Any:
    """A line with its numbers as numbers, but for their last digits."""
    return (
        json.loads(line, parse_float=lambda text: pytest.approx(float(text), abs=1e-5))
        if line.startswith("{")
        else line
    )


@pytest.mark.parametrize("case", GIVEN)
def test_predict_prints_the_same(folder: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with_torch, without = (run("predict", case.split(",")[0], *GIVEN[case], *more) for more in ([], ["--runtime"]))
    assert (with_torch.exit_code, without.exit_code) == (0, 0), without.output
    assert len(with_torch.stdout.splitlines()) > 1
    for one, other in zip(with_torch.stdout.splitlines(), without.stdout.splitlines(), strict=True):
        assert parsed(one) == json.loads(other) if one.startswith("{") else one == other


def test_predict_writes_the_same_table(folder: Path, tmp_path: Path) -> None:
    given = "predict", folder / "text", "--file", folder / "texts.parquet", "--text", "text", "--out"
    with_torch, without = run(*given, tmp_path / "a"), run(*given, tmp_path / "b", "--runtime")
    assert (with_torch.exit_code, without.exit_code) == (0, 0), without.output
    expected, found = (pq.read_table(tmp_path / name) for name in "ab")
    assert found.schema == expected.schema
    for one, other in zip(found.to_pylist(), expected.to_pylist(), strict=True):
        assert one.pop("predicted_probabilities") == pytest.approx(other.pop("predicted_probabilities"), abs=1e-6)
        assert one == other


@pytest.mark.parametrize("case", ["text", "moves", "words, together", "a table"])
def test_predict_needs_no_torch(folder: Path, case: str, tmp_path: Path) -> None:
    table = ["--file", "texts.parquet", "--text", "text", "--out", str(tmp_path / "out")]
    name, given = ("text", table) if case == "a table" else (case.split(",")[0], GIVEN[case])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "predict", name, *given, "--runtime"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == (1 if case == "a table" else len(given) if case != "words, together" else 2)


def test_an_attention_map_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    result = run("predict", folder / "words", "cab", "--attention-map", tmp_path / "map.png", "--runtime")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_of_explanations_needs_torch(folder: Path, tmp_path: Path) -> None:
    result = run("predict", folder / "text", "a film", "--explain", tmp_path / "page.html", "--runtime")
    assert result.exit_code == 2
    assert result.stderr == "fastgru: --explain needs torch: leave out --runtime\n"


PLAIN = WITHOUT_TORCH.replace('"huggingface_hub")', '"huggingface_hub", "typer", "rich", "click", "pandas", "pyarrow")')


def run_plain(*arguments: object, given: str = "", missing: str = PLAIN) -> subprocess.CompletedProcess[str]:
    """The command where NumPy, safetensors and tokenizers are all there is."""
    words = [sys.executable, "-W", "error", "-c", missing, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, input=given)


@pytest.mark.parametrize("case", ["text", "text, as JSON", "words", "words, as JSON"])
def test_predict_without_its_packages_prints_the_same(folder: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    given = "predict", case.split(",")[0], *GIVEN[case]
    done, whole = run_plain(*given), run(*given, "--runtime")
    assert (done.returncode, done.stderr, whole.exit_code) == (0, "", 0)
    assert done.stdout == whole.stdout


def test_predict_without_its_packages_reads_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("cab\n\na\n")
    (tmp_path / "words.csv").write_text("word,n\ncab,1\na,2\n")
    expected = run("predict", folder / "words", "cab", "a", "--runtime").stdout
    assert len(expected.splitlines()) == 2
    for given in (["--file", tmp_path / "words.txt"], ["--file", tmp_path / "words.csv", "--text", "word"], ["-"]):
        assert run_plain("predict", folder / "words", *given, given="cab\na\n").stdout == expected


PLAIN_REFUSALS = {
    "typo cat": "typo: there is no such folder, and no ready model of this name; there are: pronunciation",
    "words": "give texts, or a file of them with --file: one of the two",
    "words cab --out x": "unrecognized arguments: --out x; fastgru predict --help tells what there is",
    "words cab --beam 0": "argument --beam: '0' is no whole number from 1 on",
    "text fine --best 2": "--beam and --best are no options for a model of classify",
    "moves one.npy": "moves is a sequence_classifier, whose inputs are read with more packages: pip install",
    "words --file none.txt": "none.txt cannot be read",
}


@pytest.mark.parametrize("words", PLAIN_REFUSALS)
def test_predict_without_its_packages_refuses_in_a_line(
    folder: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = run_plain("predict", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"fastgru: {PLAIN_REFUSALS[words]}")
    assert done.stderr.count("\n") == 1


def test_predict_without_tokenizers_says_what_to_install(folder: Path) -> None:
    less = PLAIN.replace('"pandas"', '"pandas", "tokenizers"')
    assert run_plain("predict", folder / "words", "cab", missing=less).returncode == 0
    done = run_plain("predict", folder / "text", "fine", missing=less)
    assert done.returncode == 2
    assert done.stderr == (
        "fastgru: texts need tokenizers, which is not installed here. Install it with: pip install 'fastgru[text]'\n"
    )


def test_a_ready_model_is_predicted_by_and_measured(tmp_path: Path) -> None:
    asked = "predict", "pronunciation", "cat", "world"
    for said in (run(*asked).stdout, run(*asked, "--runtime").stdout, run_plain(*asked).stdout):
        assert said == "K AE T\nW ER L D\n"
    table = tmp_path / "words.csv"
    table.write_text("source,target\ncat,K AE T\ncat,K IY T\nworld,W ER L D\nhello,W\n")
    asked = "evaluate", "pronunciation", "--data", str(table), "--json"
    found = [json.loads(run(*asked, *more).stdout) for more in ([], ["--runtime"])]
    assert found[0] == found[1]
    assert (found[0]["sources"], found[0]["sequence_error"]) == (3, pytest.approx(1 / 3))
    refused = run("evaluate", "pronunciation", "--card")
    assert refused.exit_code == 2
    assert "metrics.csv cannot be read" in refused.stderr


def test_where_there_is_no_torch_predict_answers_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run("predict", folder / "words", "cab", "--runtime").stdout
    gone = WITHOUT_TORCH.replace("sys.meta_path", "sys.modules['torch'] = None\nsys.meta_path")
    assert run_plain("predict", folder / "words", "cab", missing=gone).stdout == expected
