"""The examples: those of the document that fastgru began with, word for word, and they print what it says.

What differs from the document: fastgru.GRU stands for nn.GRU, and the third example's hidden state is mended. The
document joins one state with itself (`[hidden, hidden]`) where it means the final states of the two directions.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT.parent / "shared" / "seed" / "torch_nn_gru.txt"
EXAMPLES = ["basic_usage", "lstm_vs_gru", "text_classification"]


def fold(text: str) -> str:
    """The document has lost its line breaks, and our formatter adds some: compare the words."""
    return " ".join(text.split())


def document() -> str:
    if not DOCUMENT.is_file():
        pytest.skip("needs shared/seed/torch_nn_gru.txt beside the checkout")
    return DOCUMENT.read_text()


def in_torchs_words(name: str) -> str:
    """An example with torch.nn.GRU in it, as in the document."""
    ours = (ROOT / "examples" / f"{name}.py").read_text()
    return ours.replace("import fastgru\n", "").replace("fastgru.GRU(", "nn.GRU(")


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_the_documents(name: str) -> None:
    theirs = [fold(code) for code in re.findall(r"```python(.*?)```", document(), flags=re.DOTALL)[1:]]
    ours = in_torchs_words(name).replace("hidden[-2]", "hidden").replace("hidden[-1]", "hidden")
    assert fold(ours) == theirs[EXAMPLES.index(name)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_prints_what_the_document_says(name: str) -> None:
    check(name, python(ROOT / "examples" / f"{name}.py").stdout)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_documents_program_runs_on_fastgru_as_it_stands(name: str, tmp_path: Path) -> None:
    Path(tmp_path, "program.py").write_text(in_torchs_words(name))
    ended = python("-m", "fastgru", "run", tmp_path / "program.py")
    check(name, ended.stdout)
    calls = "100 calls: 100 by cpu" if name == "lstm_vs_gru" else "1 call: 1 by cpu"
    assert ended.stderr == f"fastgru: torch.nn.GRU and GRUCell: 1 layer, {calls}\n"


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # two that spin for each other take minutes on a busy machine
    run = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(run, capture_output=True, text=True, check=True, env=one_thread)


def check(name: str, printed: str) -> None:
    if name == "lstm_vs_gru":
        assert re.fullmatch(r"LSTM execution time: \d+\.\d{3}s\nGRU execution time: \d+\.\d{3}s\n", printed)
        return
    expected = re.findall(r"\*\*Output:\*\* ```text(.*?)```", document(), flags=re.DOTALL)
    assert fold(printed) == fold(expected[0 if name == "basic_usage" else 1])


def test_text_classification_joins_both_directions() -> None:
    scope: dict[str, type[torch.nn.Module]] = {}
    exec((ROOT / "examples" / "text_classification.py").read_text(), scope)
    model = scope["GRUClassifier"](50, 4, 3, 2)
    ids = torch.randint(0, 50, (2, 7))
    y, _ = model.gru(model.embedding(ids))
    last = torch.cat([y[:, -1, :3], y[:, 0, 3:]], dim=1)
    torch.testing.assert_close(model(ids), model.fc(last))
