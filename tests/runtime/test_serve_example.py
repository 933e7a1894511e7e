"""The example behind HTTP, asked by a real client."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from small_text_model import TEXTS, build

from fastgru import runtime
from fastgru.models import SequenceClassifier, SequenceClassifierConfig

SERVE = Path(__file__).parents[2] / "examples" / "serve"
# In front of the program: a process in which torch cannot be imported.
ALONE = "import sys; sys.modules['torch'] = None; import uvicorn; sys.exit(uvicorn.main())"


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    request.param().save_pretrained(tmp_path / "model")
    words = [sys.executable, "-c", ALONE, "--app-dir", SERVE, "--port", "0", "serve:app"]
    environment = {**os.environ, "MODEL": str(tmp_path / "model")}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"running on (http://\S+)", line):
                yield found[1]
                break
        else:
            pytest.fail("".join(said))
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close() if process.stderr else None


def ask(url: str, content: Any) -> tuple[int, Any]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    try:
        with urlopen(f"{url}/predict", data, timeout=30) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("server", [build], indirect=True)
def test_it_answers_several_clients_at_once_as_the_model_does(server: str, tmp_path: Path) -> None:
    expected = [one.probabilities for one in runtime.load(tmp_path / "model").predict(TEXTS)]
    with ThreadPoolExecutor(4) as pool:
        for status, found in pool.map(lambda _: ask(server, {"inputs": TEXTS}), range(8)):
            assert status == 200
            for one, probabilities in zip(found, expected, strict=True):
                assert one["probabilities"] == pytest.approx(probabilities, abs=1e-6)
                assert one["label"] == max(probabilities, key=probabilities.__getitem__)
    refused = {b"{": "", b"[]": "expected", b'{"inputs": "text"}': "a list of texts", b'{"inputs": [1]}': ""}
    for data, words in refused.items():
        status, found = ask(server, data)
        assert status == 422
        assert words in found["error"]
    assert ask(server, {"inputs": TEXTS[:1]})[0] == 200  # it goes on


def sequences() -> SequenceClassifier:
    return SequenceClassifier(SequenceClassifierConfig(labels=["a", "b"], input_size=3, hidden_size=4))


@pytest.mark.parametrize("server", [sequences], indirect=True)
def test_it_answers_for_sequences(server: str, tmp_path: Path) -> None:
    one = np.arange(12, dtype="f4").reshape(4, 3)
    status, found = ask(server, {"inputs": [one.tolist()]})
    assert status == 200
    (expected,) = runtime.load(tmp_path / "model").predict([one])
    assert found[0]["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
