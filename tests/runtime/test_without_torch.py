"""fastgru.runtime where torch is not: which modules it imports, and what it answers."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_text_model import TEXTS
from small_text_model import build as build_text

import fastgru
from fastgru.common.errors import InputError
from fastgru.inference import tokens
from fastgru.models import LogMel, Seq2Seq, Seq2SeqConfig, SequenceClassifier, SequenceClassifierConfig
from fastgru.runtime.models import load_model

SOURCE = Path(fastgru.__file__).parent
ALLOWED = {"fastgru", "numpy", "safetensors"}


def imported_at_once(path: Path) -> set[str]:
    """What a module imports when it is imported: not inside functions, and not for types alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.If):
            if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
                waiting += node.body
            waiting += node.orelse if isinstance(node, ast.If) else []
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def file_of(module: str) -> Path | None:
    path = SOURCE.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def reached(start: set[str]) -> set[str]:
    """All modules that are imported for these."""
    found: set[str] = set()
    waiting = {*start}
    while waiting:
        module = waiting.pop()
        found.add(module)
        file = file_of(module) if module.startswith("fastgru.") else None
        waiting |= (imported_at_once(file) if file else set()) - found
    return found


def test_nothing_but_numpy_and_safetensors_is_imported() -> None:
    rooms = [SOURCE / "runtime", SOURCE / "inference"]
    start = {
        f"fastgru.{room.name}.{file.stem}" for room in rooms for file in room.glob("*.py") if file.stem != "__init__"
    }
    modules = reached({*start, "fastgru.runtime", "fastgru.inference"})
    assert len(start) > 15
    others = {module.split(".")[0] for module in modules} - ALLOWED - sys.stdlib_module_names
    assert others == set()
    assert "fastgru.core.spec" in modules


def test_an_import_of_torch_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lightning\nelse:\n    import torch.nn\n"
        "def f():\n    import pandas\nclass C:\n    from numpy import x\n"
    )
    found = imported_at_once(tmp_path / "x.py")
    assert found == {"typing", "typing.TYPE_CHECKING", "torch.nn", "numpy", "numpy.x"}
    assert "torch" in reached({"fastgru.models.decoder"})


NO_TORCH = """
import json, sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from fastgru import runtime
"""
ALL_MISSING = ["torch", "lightning", "huggingface_hub", "pandas", "typer", "rich", "pyarrow"]
ASK = """
import numpy as np
text, sequence, words = (runtime.load(folder) for folder in sys.argv[1:4])
vectors = [np.arange(12, dtype=np.float32).reshape(3, 4), np.ones((7, 4), np.float32)]
print(json.dumps([
    [found.probabilities for found in text.predict(json.loads(sys.argv[4]))],
    [found.probabilities for found in sequence.predict(vectors)],
    [[[one.text, one.score] for one in several] for several in words.predict(["cab", "a"], best=2)],
]))
"""


def run(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    config = SequenceClassifierConfig(["a", "b"], input_size=4, features=LogMel(8_000, 4))
    letters, sounds = (
        tokens.source_tokenizer("characters", "abc", fold=True),
        tokens.target_tokenizer("words", ["X", "Y"]),
    )
    models = build_text(), SequenceClassifier(config), Seq2Seq(Seq2SeqConfig(6, 6, decoder_size=8), letters, sounds)
    for number, model in enumerate(models):
        model.save_pretrained(folder / str(number))
    return [folder / str(number) for number in range(3)]


def test_models_answer_where_torch_cannot_be_imported(folders: list[Path]) -> None:
    done = run(NO_TORCH.format(missing=ALL_MISSING) + ASK, *folders, json.dumps(TEXTS))
    assert (done.returncode, done.stderr) == (0, "")
    texts, sequences, written = json.loads(done.stdout)
    vectors = [np.arange(12, dtype=np.float32).reshape(3, 4), np.ones((7, 4), np.float32)]
    for found, model, inputs in ((texts, 0, TEXTS), (sequences, 1, vectors)):
        expected = load_model(folders[model]).predict(inputs)
        assert found == [one.probabilities for one in expected]
    expected = load_model(folders[2]).predict(["cab", "a"], best=2)
    assert written == [[[one.text, one.score] for one in several] for several in expected]


def test_without_tokenizers_a_text_model_says_what_to_install(folders: list[Path]) -> None:
    code = NO_TORCH.format(missing=[*ALL_MISSING, "tokenizers"])
    done = run(code + "print(runtime.load(sys.argv[2]).config.labels)\nruntime.load(sys.argv[1])", *folders)
    assert done.stdout == "['a', 'b']\n"
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: texts need tokenizers, which is not installed here. "
        "Install it with: pip install 'fastgru[text]'"
    )


def test_a_folder_that_is_not_there_is_refused_in_words(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(InputError, match="cannot be loaded as a model: "):
        load_model(tmp_path / "none")
    code = (
        NO_TORCH.format(missing=ALL_MISSING) + "from fastgru.runtime.models import load_model; load_model('none/such')"
    )
    assert "there is no none/such/config.json, and no huggingface_hub to fetch it with" in run(code).stderr
    with pytest.raises(InputError, match=r"there is no config\.json in it"):
        load_model(tmp_path)
    for file in ("model.safetensors", "tokenizer.json"):
        copy = tmp_path / file.replace(".", "_")
        copy.mkdir()
        for other in folders[0].iterdir():
            if other.name != file:
                (copy / other.name).write_bytes(other.read_bytes())
        with pytest.raises(InputError, match=f"there is no {file}"):
            load_model(copy)
