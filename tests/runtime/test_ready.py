"""The ready models: what comes with the package, how it is named, and that it speaks without torch."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from test_without_torch import ALL_MISSING, NO_TORCH

import fastgru
from fastgru import runtime
from fastgru.common.errors import InputError
from fastgru.data.pairs import load_pairs
from fastgru.inference.folder import READY, place_of
from fastgru.models import Seq2Seq
from fastgru.runtime.models import load_model, ready_models
from fastgru.training.evaluate import evaluate_run
from fastgru.training.run_folder import task_of_run
from fastgru.training.tasks import TASKS

FOLDER = READY / "pronunciation"
# As the CMU Pronouncing Dictionary has them.
SAID = {
    "cat": ["K AE T"],
    "hello": ["HH AH L OW", "HH EH L OW"],
    "world": ["W ER L D"],
    "computer": ["K AH M P Y UW T ER"],
    "network": ["N EH T W ER K"],
    "recurrent": ["R IH K ER AH N T", "R IY K ER AH N T"],
    "phonetics": ["F AH N EH T IH K S"],
}
TORCH_FREE = [*ALL_MISSING, "tokenizers", "platformdirs"]


def test_common_words_are_pronounced_as_the_dictionary_has_them() -> None:
    found = runtime.load("pronunciation").predict(SAID)
    wrong = {word: one.text for (word, said), (one,) in zip(SAID.items(), found, strict=True) if one.text not in said}
    assert wrong == {}


def test_torch_says_the_same() -> None:
    model = Seq2Seq.from_pretrained("pronunciation")
    assert (model.quantization, model.matrices) == ("int8", "int8")
    for beam in (1, 5):
        ours, theirs = (each.predict(SAID, beam=beam) for each in (load_model("pronunciation"), model))
        assert [several[0].text for several in ours] == [several[0].text for several in theirs]


def test_it_speaks_where_numpy_and_safetensors_are_all_there_is() -> None:
    ask = "print(runtime.load('pronunciation').predict(['world', 'cat'])[0][0].text)"
    code = NO_TORCH.format(missing=TORCH_FREE) + ask
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "W ER L D\n", "")


def test_it_is_small_and_has_its_licence_and_card() -> None:
    assert ready_models() == [path.name for path in READY.iterdir()] == ["pronunciation"]
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    own = {"source_tokenizer.json", "target_tokenizer.json"}
    assert set(files) == {"LICENSE", "README.md", "config.json", "model.safetensors", "train.json", *own}
    assert sum(files.values()) <= 3_000_000
    licence = (FOLDER / "LICENSE").read_text()
    assert "Carnegie Mellon University" in licence
    assert "Redistributions in binary form must reproduce the above copyright" in licence
    card = ModelCard.load(FOLDER / "README.md")
    assert (card.data.license, card.data.language, card.data.library_name) == ("bsd-2-clause", "en", "fastgru")
    for told in ("fastgru train translate --data pronunciations", "SHA-256", "int8", "g2p_en", "LICENSE"):
        assert told in card.text


def test_the_card_tells_what_an_evaluation_gives() -> None:
    task = task_of_run("pronunciation")
    try:
        load_pairs("pronunciations", "source", "target")
    except InputError as error:
        pytest.skip(f"needs the dictionary: {error}")
    measures, source = evaluate_run(task, "pronunciation", None, {}, runtime=True)
    assert (source, measures.sources, measures.beam) == ("the test part of pronunciations", 6252, 5)
    card = ModelCard.load(FOLDER / "README.md")
    told = {one.metric_name: one.metric_value for one in card.data.eval_results if one.dataset_split == "test"}
    # All instruction sets gave the same words; another BLAS may decide a near tie of one word otherwise.
    assert measures.sequence_error == pytest.approx(told["sequence error"], rel=0, abs=1.5 / 6252)
    assert measures.token_error == pytest.approx(told["token error"], rel=0, abs=6.5 / 39_726)
    (row,) = re.findall(r"\| int8, the model here \| ([\d.]+)% \| ([\d.]+)% \|", card.text)
    errors = told["sequence error"], told["token error"]
    assert [float(number) for number in row] == [round(100 * error, 2) for error in errors]


def test_a_path_that_is_there_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FOLDER, tmp_path / "pronunciation")
    config = json.loads((FOLDER / "config.json").read_text())
    (tmp_path / "pronunciation" / "config.json").write_text(json.dumps({**config, "dropout": 0.5}))
    for found in (runtime.load("pronunciation"), load_model("pronunciation"), Seq2Seq.from_pretrained("pronunciation")):
        assert found.config.dropout == 0.5
    assert place_of("pronunciation") == "pronunciation"
    monkeypatch.chdir("/")
    assert place_of("pronunciation") == FOLDER
    assert place_of("owner/name") == "owner/name"


@pytest.mark.parametrize("load", [runtime.load, load_model, Seq2Seq.from_pretrained, task_of_run])
def test_an_unknown_name_is_told_the_ready_models(load: object) -> None:
    assert callable(load)
    words = "pronounciation: there is no such folder, and no ready model of this name; there are: pronunciation"
    with pytest.raises(InputError, match=re.escape(words)):
        load("pronounciation")


def test_it_is_trained_on_only_as_float(tmp_path: Path) -> None:
    task = TASKS["translate"]
    options = task.options(start_from="pronunciation", dropout=0.2)
    with pytest.raises(InputError, match="--from pronunciation: its weights are int8, and only floats are trained"):
        task.start_model(options, None)
    fastgru.to_float(Seq2Seq.from_pretrained("pronunciation")).save_pretrained(tmp_path)
    started = task.start_model(replace(options, start_from=str(tmp_path)), None)
    assert started.config.dropout == 0.2
    assert started.eval().predict(["cat"])[0][0].text == "K AE T"
