"""The run folder: where a training keeps its options, its checkpoint, its log and its best model."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fastgru.errors import InputError


@dataclass(frozen=True)
class ClassifyOptions:
    """The options of a classifier's training; train.json holds them.

    `data`, `text`, `label`, `test`: where the texts come from (`fastgru.data.split.load_splits`).
    `lr`: learning rate of AdamW; `patience`: epochs without a better validation accuracy before it stops.
    `threads`: of the CPU. A step of a small model is so short that the second thread made it 1.3 times as fast on an
    idle machine and 10 times as slow on a busy one; and with one the result does not depend on the machine's cores.
    """

    data: str = "reviews"
    text: str = "text"
    label: str = "label"
    test: str | None = None
    seed: int = 0
    epochs: int = 12
    patience: int = 4
    batch_size: int = 64
    lr: float = 2e-3
    embedding_size: int = 200
    hidden_size: int = 64
    dropout: float = 0.5
    threads: int = 1


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    `path`: the folder. It holds config.json, model.safetensors and tokenizer.json (the best model), train.json,
    metrics.csv, curves.png and checkpoints/last.ckpt.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The state of the training after its last whole epoch."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def metrics(self) -> Path:
        """The log: one row an epoch."""
        return self.path / "metrics.csv"

    @property
    def curves(self) -> Path:
        """The learning curves."""
        return self.path / "curves.png"

    @property
    def _options(self) -> Path:
        return self.path / "train.json"

    def create(self, options: ClassifyOptions, fingerprint: str, *, overwrite: bool) -> None:
        """Make the folder and write train.json.

        InputError where the folder already holds something. `overwrite` replaces an earlier run; a folder that
        holds anything but a run is never emptied.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file: a run needs a folder")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not self._options.is_file():
                raise InputError(f"{self.path} is a folder with other things in it: name another one with --out")
            if not overwrite:
                raise InputError(
                    f"{self.path} already holds a run: go on with it with --resume, or replace it with --overwrite"
                )
            shutil.rmtree(self.path)
        self.checkpoint.parent.mkdir(parents=True)
        self._write({"task": "classify", "finished": False, "data_sha256": fingerprint, "options": asdict(options)})

    def read_options(self) -> ClassifyOptions:
        """Read the options of the run; InputError where train.json is missing or is not one of ours."""
        options = self._read().get("options")
        names = {field.name for field in fields(ClassifyOptions)}
        if not isinstance(options, dict) or set(options) != names:
            raise InputError(f"{self._options} does not hold the options of a classifier's training")
        return ClassifyOptions(**options)

    def check_data(self, fingerprint: str) -> None:
        """InputError where the data is no longer what the run was started with."""
        if self._read().get("data_sha256") != fingerprint:
            raise InputError(f"the data of {self.path} has changed since that run was started: train anew")

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return bool(self._read().get("finished"))

    def finish(self) -> None:
        """Note in train.json that the training came to its end."""
        self._write({**self._read(), "finished": True})

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._options.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{self.path} is not the folder of a run: there is no train.json in it") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{self._options} cannot be read: {error}") from error
        return content if isinstance(content, dict) else {}

    def _write(self, content: dict[str, Any]) -> None:
        temporary = self._options.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, self._options)
