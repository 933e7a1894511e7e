"""The task translate: its data, its measures, and its commands on a small file."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from fastgru.cli import app
from fastgru.data.pairs import load_pairs, references
from fastgru.data.pronunciations import read_pronunciations
from fastgru.models import Seq2Seq
from fastgru.training.translate.errors import count_errors, edit_distance

SIZES = {"embedding-size": 12, "encoder-size": 16, "encoder-layers": 1, "decoder-size": 16, "ngrams": 1000}
TRAINING = {"epochs": 12, "batch-size": 16, "warm-up": 10, "lr": 0.01, "dropout": 0}
SMALL = [f"--{name}={value}" for name, value in (SIZES | TRAINING).items()]

DICTIONARY = """'tis T IH1 Z
a AH0
a(2) EY1
a.m. EY2 EH1 M
aalborg AO1 L B AO0 R G # place, danish
record R AH0 K AO1 R D
record(2) R EH1 K ER0 D
record(3) R AH1 K AO0 R D
x-ray EH1 K S R EY2
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Words and their letters in capitals, from the last to the first."""
    letters = random.Random(0)
    words = sorted({"".join(letters.choices("abcd", k=letters.randint(1, 4))) for _ in range(240)})
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    path.write_text("word\tback\n" + "".join(f"{word}\t{' '.join(word[::-1].upper())}\n" for word in words))
    return str(path)


@pytest.fixture(scope="module")
def trained(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    result = run("train", "translate", "--data", data, "--source", "word", "--target", "back", "--out", out, *SMALL)
    assert result.exit_code == 0, result.output
    assert "best validation sequence error" in result.stdout
    return out


def test_pronunciations_are_read_as_they_are_written() -> None:
    words, said = read_pronunciations(DICTIONARY, stress=False)
    assert words == ["'tis", "a", "a", "aalborg", "record", "record"]
    assert said == ["T IH Z", "AH", "EY", "AO L B AO R G", "R AH K AO R D", "R EH K ER D"]
    words, said = read_pronunciations(DICTIONARY, stress=True)
    assert words.count("record") == 3
    assert said[0] == "T IH1 Z"


def test_all_targets_of_a_source_are_in_one_part(tmp_path: Path) -> None:
    rows = [f"w{n}\tX{n} {k}" for n in range(300) for k in range(1 + n % 3)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["source\ttarget", *rows]))
    splits = load_pairs(str(tmp_path / "pairs.tsv"), "source", "target")
    parts = [references(part) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 300
    assert all(len(part["w" + name[1:]]) == 1 + int(name[1:]) % 3 for part in parts for name in part)
    assert len(splits.test) == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    ("first", "second", "edits"),
    [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2), ("a", "a", 0)],
)
def test_edit_distance_is_levenshteins(first: str, second: str, edits: int) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == edits


def test_errors_are_counted_against_the_closest_reference(trained: Path) -> None:
    model = Seq2Seq.from_pretrained(trained)
    right = count_errors(model, "A B", ["B", "A B"])
    assert (right.wrong, right.edits, right.tokens) == (False, 0, 2)
    wrong = count_errors(model, "A B C", ["D", "A B D D"])
    assert (wrong.wrong, wrong.edits, wrong.tokens) == (True, 2, 4)


def test_evaluate_tells_the_errors(trained: Path, data: str) -> None:
    measures = json.loads(run("evaluate", trained, "--json").stdout)
    assert measures["beam"] == 5
    assert 0 <= measures["token_error"] <= measures["sequence_error"] <= 1
    shown = run("evaluate", trained, "--data", data)
    assert shown.exit_code == 0, shown.output
    assert "sequence error" in shown.stdout


def test_predict_writes_and_draws(trained: Path, tmp_path: Path) -> None:
    picture = tmp_path / "map.png"
    result = run("predict", trained, "abc", "DA", "--attention-map", picture)
    assert result.exit_code == 0, result.output
    assert [len(line.split()) > 0 for line in result.stdout.splitlines()] == [True, True]
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = json.loads(run("predict", trained, "abc", "--best", 3, "--json").stdout)
    assert said["source"] == "abc"
    assert said["target"] == result.stdout.splitlines()[0]
    assert len(said["others"]) == 2
    assert said["score"] <= 0


def test_models_write_together(trained: Path, tmp_path: Path) -> None:
    alone = json.loads(run("evaluate", trained, "--json").stdout)
    assert json.loads(run("evaluate", trained, "--ensemble", trained, "--json").stdout) == alone
    once = json.loads(run("predict", trained, "abc", "--json").stdout)
    together = run("predict", trained, "abc", "--ensemble", trained, "--ensemble", trained, "--json")
    assert json.loads(together.stdout) == {**once, "score": pytest.approx(once["score"], abs=1e-5)}
    picture = tmp_path / "map.png"
    assert run("predict", trained, "abc", "--ensemble", trained, "--attention-map", picture).exit_code == 0
    assert picture.stat().st_size > 0


def test_a_table_is_translated_by_several_models(trained: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"word": ["abc", "da", "dda"]}), tmp_path / "words.parquet")
    to, told = ("--file", tmp_path / "words.parquet", "--text", "word"), []
    for name, others in (("one", []), ("two", ["--ensemble", trained])):
        result = run("predict", trained, *to, *others, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        told.append(pq.read_table(tmp_path / name)["predicted_target"].to_pylist())
    assert told[0] == told[1]


def test_models_that_do_not_write_together(trained: Path, tmp_path: Path) -> None:
    refused = run("evaluate", trained, "--ensemble", tmp_path / "none")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    other = tmp_path / "other"
    Seq2Seq.from_pretrained(trained).save_pretrained(other)
    tokens = json.loads((other / "target_tokenizer.json").read_text())
    tokens["model"]["unk_token"] = "[EOS]"
    (other / "target_tokenizer.json").write_text(json.dumps(tokens))
    refused = run("predict", trained, "abc", "--ensemble", other)
    assert refused.exit_code == 2
    assert refused.stderr == "fastgru: models that write together have the same tokens; model 2 has another " + (
        "target_tokenizer\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--attention-map", "map.nothing"], "an image's name ends in one of"),
        (["a"] * 13 + ["--attention-map", "map.png"], "a picture has 12 attention maps at most, got 13 inputs"),
    ],
    ids=["suffix", "many"],
)
def test_a_map_that_cannot_be_drawn(trained: Path, arguments: list[str], message: str) -> None:
    result = run("predict", trained, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_train_with_layers_that_the_attention_cannot_have(data: str, tmp_path: Path) -> None:
    columns = ("--source", "word", "--target", "back")
    result = run("train", "translate", "--data", data, *columns, "--attention", "bahdanau", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr == "fastgru: a decoder with Bahdanau's attention has one layer, got 2\n"
    assert not (tmp_path / "run").exists()


def test_train_gives_vectors_to_frequent_ngrams(trained: Path) -> None:
    model = Seq2Seq.from_pretrained(trained)
    assert 20 < model.config.ngrams < 240
    assert len(set(model.source_embedding.ngram_codes.tolist())) == model.config.ngrams


def test_train_with_an_even_ngram(data: str, tmp_path: Path) -> None:
    columns = ("--source", "word", "--target", "back")
    even = ("--ngrams", 10, "--longest-ngram", 4)
    result = run("train", "translate", "--data", data, *columns, *even, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr == "fastgru: longest_ngram must be an odd number, got 4\n"
    assert not (tmp_path / "run").exists()


def test_train_on_too_few_pairs(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("source\ttarget\na\tA\nb\tB\n")
    result = run("train", "translate", "--data", tmp_path / "pairs.tsv", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "too few different sources" in result.stderr
