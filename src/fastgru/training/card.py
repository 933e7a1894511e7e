"""The model card of a run: what the model tells, of which data it learned, and how well; with the Hub's metadata."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fastgru.common.files import atomic_write
from fastgru.data.stream import BUILT_IN
from fastgru.training.options import TrainOptions
from fastgru.training.task import Data
from fastgru.training.tasks import AnyTask

CARD = "README.md"
# What the Hub calls the measures that it knows; others keep their names.
METRICS = {"f1_macro": "f1", "validation_accuracy": "accuracy", "validation_f1": "f1", "validation_loss": "loss"}
USE = {
    "text_classifier": ("A text classifier on a bidirectional GRU", "TextClassifier", '["a text"]'),
    "sequence_classifier": (
        "A classifier of sequences on a GRU",
        "SequenceClassifier",
        "[sequence]  # [steps, features]",
    ),
    "seq2seq": ("A sequence-to-sequence model on GRUs", "Seq2Seq", '["a source"]'),
}


@dataclass(frozen=True)
class Card:
    """The facts of a card.

    `name`: of the model, the folder's. `best`: the row of the log of the epoch that is kept. `tested`: what `evaluate`
    measured on the test part, where it was asked. `use`: how the model is used, in place of what a folder's card says.
    `sections`: in Markdown, behind the others.
    """

    task: AnyTask
    name: str
    options: TrainOptions
    data: Data
    model: Any
    best: Mapping[str, float]
    tested: Mapping[str, float] | None = None
    use: str = ""
    sections: Sequence[str] = ()

    def write(self, folder: Path) -> None:
        """Write README.md; a reader never meets half of it."""
        with atomic_write(folder / CARD) as temporary:
            temporary.write_text(str(ModelCard(self.text())), encoding="utf-8")

    def text(self) -> str:
        """Give metadata and text in Markdown."""
        what, kind, inputs = USE[self.task.model_type]
        parts = [
            f"---\n{self._metadata().to_yaml()}\n---\n\n# {self.name}\n\n{what}, made with fastgru.\n",
            self.use
            or "    pip install 'fastgru[train]'\n\n"
            f"    from fastgru.models import {kind}\n\n"
            f'    model = {kind}.from_pretrained("this folder, or its name on the Hub")\n'
            f"    model.predict({inputs})\n",
            self._labels(),
            self._data(),
            table("Measures", ("measure", "value", "of"), [(n, f"{v:.4f}", part) for n, v, part in self._measures()]),
            self._training(),
            *self.sections,
        ]
        return "\n".join(part for part in parts if part)

    def _metadata(self) -> ModelCardData:
        source = self._source
        results = [
            EvalResult(
                task_type=self._pipeline or "other",
                dataset_type=source,
                dataset_name=source,
                dataset_split=part,
                metric_type=METRICS.get(name, name.removeprefix("validation_")),
                metric_name=name.removeprefix("validation_").replace("_", " "),
                metric_value=round(value, 6),
            )
            for name, value, part in self._measures()
        ]
        return ModelCardData(
            model_name=self.name,
            library_name="fastgru",
            pipeline_tag=self._pipeline,
            tags=["fastgru", "gru", "rnn", self.task.name],
            language=self.options.language,
            license=self.options.license,
            datasets=[source] if self._is_on_the_hub else None,
            metrics=sorted({str(result.metric_type) for result in results} - {"loss"}),
            eval_results=results,
        )

    @property
    def _pipeline(self) -> str | None:
        """The Hub's word for what the model does, where it has one."""
        if self.task.model_type == "text_classifier":
            return "text-classification"
        return "audio-classification" if getattr(self.model.config, "features", None) else None

    @property
    def _source(self) -> str:
        """The name of the data, without the folders of whoever trained."""
        name = str(getattr(self.options, "data", ""))
        return name if self._is_on_the_hub or name in BUILT_IN else Path(name).name

    @property
    def _is_on_the_hub(self) -> bool:
        name = str(getattr(self.options, "data", ""))
        return name.count("/") == 1 and not Path(name).suffix and not Path(name).exists()

    def _measures(self) -> list[tuple[str, float, str]]:
        found = [(name, value, "validation") for name, value in self.best.items() if name.startswith("validation_")]
        return found + [(name, value, "test") for name, value in (self.tested or {}).items()]

    def _labels(self) -> str:
        if not hasattr(self.model.config, "labels"):
            return ""
        counts = getattr(self.data, "train").label_counts  # noqa: B009 (not of every kind of data)
        rows = [(name, f"{counts[name]:,}") for name in self.model.config.labels]
        return table("Labels", ("label", "rows to train on"), rows)

    def _data(self) -> str:
        parts = [f"{len(getattr(self.data, part)):,} {part}" for part in ("train", "validation", "test")]
        return f"## Data\n\n{self._source}: {', '.join(parts)} rows, SHA-256 `{self.data.fingerprint()}`.\n"

    def _training(self) -> str:
        kind = type(self.options)
        hidden = {"data", "test", "start_from", "vectors", "language", "license"}
        given = {name: value for name, value in asdict(self.options).items() if value != getattr(kind, name)}
        shown = [f"--{name.replace('_', '-')} {value}" for name, value in given.items() if name not in hidden]
        command = " ".join(["fastgru train", self.task.name, "--data", shlex.quote(self._source), *shown])
        return f"## Training\n\n    {command}\n\nThe model is that of epoch {self.best['epoch']:.0f}.\n"


def numbers_of(measures: Any) -> dict[str, float]:
    """Give the measures that are single numbers: no counts, tables or lists."""
    found = {name: value for name, value in vars(measures).items() if isinstance(value, float)}
    corpus = getattr(measures, "corpus", None)
    return found | ({"bleu": corpus.bleu, "chrf": corpus.chrf} if corpus is not None else {})


def table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Give a section with a table, in Markdown."""
    lines = [f"## {title}\n", _row(head), _row(("---",) * len(head)), *map(_row, rows)]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    escaped = (" ".join(cell.replace("|", "\\|").split()) for cell in cells)
    return f"| {' | '.join(escaped)} |"
