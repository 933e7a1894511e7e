"""Task: what the way through a training, the commands and the run folder need to know of one task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from fastgru.common.errors import InputError
from fastgru.training.options import TrainOptions
from fastgru.training.wrong import WrongAnswer

if TYPE_CHECKING:
    from rich.console import Console

    from fastgru.models.pretrained import Pretrained
    from fastgru.training.batches import TaskData
    from fastgru.training.module import TaskModule


class Data(Protocol):
    """The data of a training: train, validation and test part, in whatever form the task has them."""

    def fingerprint(self) -> str:
        """SHA-256 (hex) that tells whether the data is still what it was."""


class Measures(Protocol):
    """What `evaluate` found: a dataclass, printed as JSON or shown."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def show(self, source: str, console: "Console") -> None:
        """Print it for people; `source`: what was measured on."""


@runtime_checkable
class Drawable(Protocol):
    """Measures of which there is a picture."""

    def draw(self, source: str, path: Path) -> None:
        """Draw it into an image file; `source`: what was measured on."""


@runtime_checkable
class Calibrated(Protocol):
    """Measures that tell what probabilities are worth."""

    def draw_reliability(self, source: str, path: Path) -> None:
        """Draw it into an image file; `source`: what was measured on."""


@runtime_checkable
class WithErrors(Protocol):
    """Measures that keep each wrong answer."""

    errors: list[WrongAnswer]


class Answer(Protocol):
    """What a model says of one input: a dataclass, printed as JSON or as a line. Its first field is the input."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def line(self) -> str:
        """Give it in one line for people."""


class Best(NamedTuple):
    """The column of the log by which the best epoch is found, and whether that is its highest or its lowest."""

    column: str
    mode: Literal["max", "min"]

    def of(self, rows: list[dict[str, float]]) -> dict[str, float]:
        """Give the row of the best epoch, the first of several."""
        choose = max if self.mode == "max" else min
        return choose(rows, key=lambda row: row[self.column])


O = TypeVar("O", bound=TrainOptions)  # noqa: E741
D = TypeVar("D", bound=Data)
M = TypeVar("M", bound="Pretrained")


class Task(ABC, Generic[O, D, M]):
    """One task: its options `O`, its data `D`, its model `M`. It holds no state.

    `name`: of the commands' and of train.json. `example`: of `fastgru train name`, for its help.
    `options`: its TrainOptions. `model_type`: the kind of its model, as config.json says it.
    `columns`: the values of the log, `train_*` and `validation_*`, all of which the module logs each epoch.
    `best`: the column by which the best epoch is found, and `best_is` whether that is the highest or the lowest; where
    an option chooses another, `best_by` tells.
    `files`: what a run's folder may hold beside what every run has: the model's own files, pictures.
    `reads`: the options that say how a table is read (names of columns); `evaluate` takes them too.
    `predict_options`: a dataclass of the options of `predict` that are the task's own, each with a default.
    `input_column`: the one of them that names a table's column of inputs; "" where no column can hold one.
    `asks_for`: what `predict` is given, in words.
    """

    name: ClassVar[str]
    example: ClassVar[str]
    options: ClassVar[type[TrainOptions]]
    model_type: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    best: ClassVar[str]
    best_is: ClassVar[Literal["max", "min"]] = "max"
    files: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[tuple[str, ...]] = ()
    predict_options: ClassVar[type[Any]]
    input_column: ClassVar[str] = ""
    asks_for: ClassVar[str]

    def columns_for(self, options: O) -> tuple[str, ...]:
        """Give the columns of the log with these options."""
        return self.columns

    def best_by(self, options: O) -> Best:
        """Give how the best epoch is found with these options."""
        return Best(self.best, self.best_is)

    @abstractmethod
    def load_data(self, options: O) -> D:
        """Load all parts; InputError for bad data."""

    @abstractmethod
    def build_model(self, options: O, data: D) -> M:
        """Make a new model for the data."""

    @abstractmethod
    def continue_model(self, model: M, options: O, data: D) -> M:
        """Make a model for the data of a saved one; InputError where these do not go together."""

    def start_model(self, options: O, data: D) -> M:
        """Make the model that is trained: a new one, or one that starts from a saved one.

        InputError where that one is quantized.
        """
        if options.start_from is None:
            return self.build_model(options, data)
        before = self.load_model(options.start_from)
        if before.quantization:
            raise InputError(
                f"--from {options.start_from}: its weights are {before.quantization}, and only floats are trained; "
                "fastgru.to_float(model).save_pretrained(folder) makes a folder that can be"
            )
        return self.continue_model(before, options, data)

    @abstractmethod
    def module(self, model: M, options: O) -> "TaskModule[M]":
        """Give the Lightning module that trains the model."""

    @abstractmethod
    def batches(self, data: D, model: M, options: O) -> "TaskData":
        """Give the training and validation batches."""

    @abstractmethod
    def describe(self, data: D, model: M) -> str:
        """Say in one line what is trained on what."""

    @abstractmethod
    def load_model(self, name: str) -> M:
        """Load a model from a folder or the Hub; InputError where that is none of this task's."""

    def load_models(self, names: Sequence[str], *, runtime: bool = False) -> Any:
        """Load the model that does the work: that of the one name, or several that answer together.

        `runtime`: those of `fastgru.runtime`, which need no torch. InputError for several where models of this task do
        not, or for those that do not go together.
        """
        if len(names) > 1:
            raise InputError(f"models of {self.name} answer each for itself: leave out --ensemble")
        return self._load_runtime(names[0]) if runtime else self.load_model(names[0])

    def _load_runtime(self, name: str) -> Any:
        from fastgru.runtime.models import load_model

        model = load_model(name)
        if model.config.model_type != self.model_type:
            raise InputError(f"{name} holds a {model.config.model_type}, and not a {self.model_type}")
        return model

    def check_runtime(self, options: Any) -> None:
        """InputError where one of these options of `predict` needs torch."""

    @abstractmethod
    def measure_test(self, model: M, data: D, options: O) -> tuple[Measures, str]:
        """Measure a model on the test part; gives what was measured on too, in words."""

    @abstractmethod
    def measure_table(self, load: Callable[[], M], source: str, options: O) -> Measures:
        """Measure a model on the table at `source`, read by the options in `reads`.

        `load`: gives the model; called once the table is read, where that needs no model: what is wrong with a table
        is said before torch is imported.
        """

    @abstractmethod
    def read_inputs(self, given: list[str], file: str | None, options: Any) -> list[Any]:
        """Give the inputs for `predict`: those `given` on the command line, or those of `file`."""

    @abstractmethod
    def predict(self, model: M, inputs: list[Any], options: Any) -> Iterable[Answer]:
        """Give an answer for each input, in order."""
