"""What the training of a classifier of signals can be told."""

from dataclasses import dataclass
from typing import Annotated

import typer

from fastgru.training.options import BatchSize, Epochs, LearningRate, Patience, TrainOptions
from fastgru.training.targets import TargetOptions

DATA, SOUND, MODEL = "Data", "Sound", "Model"


@dataclass(frozen=True, kw_only=True)
class SignalsOptions(TargetOptions, TrainOptions):
    """The options of a training.

    `data`, `test`, `stream`: where the sequences come from (`fastgru.data.signals.load_signals`).
    `path`, `label`, `groups`: of a manifest, and who stays on one side (`fastgru.data.listing.Columns`).
    `sample_rate`, `num_bins`, `centred`: what is computed of sounds (`fastgru.models.LogMel`).
    `warp`, `tempo`, `masks`: what becomes of them in training (`fastgru.training.signals.augment.Augment`).
    The rest is the model's (`fastgru.models.SequenceClassifierConfig`).
    """

    task = "signals"

    data: Annotated[
        str,
        typer.Option(
            help="'vowels', a folder with a folder of sounds (or .npy files) for each label, a table of files and "
            "labels, or a .ts or .npz file.",
            rich_help_panel=DATA,
        ),
    ] = "vowels"
    test: Annotated[
        str | None,
        typer.Option(help="Such a folder or file to test on; otherwise a tenth is kept.", rich_help_panel=DATA),
    ] = None
    path: Annotated[str, typer.Option(help="Column of the files, where --data is a table.", rich_help_panel=DATA)] = (
        "path"
    )
    label: Annotated[str, typer.Option(help="Column of the labels.", rich_help_panel=DATA)] = "label"
    groups: Annotated[
        str | None,
        typer.Option(
            help="Speakers, each of whom stays on one side of the split: a column of the table, or of a folder a "
            "regular expression on file names.",
            rich_help_panel=DATA,
        ),
    ] = None
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Leave the training part in its folder: read anew in each epoch.", rich_help_panel=DATA
        ),
    ] = False
    sample_rate: Annotated[
        int,
        typer.Option(
            min=1000,
            max=192_000,
            help="Samples a second that the model hears; fewer where a file has fewer.",
            rich_help_panel=SOUND,
        ),
    ] = 16_000
    num_bins: Annotated[
        int, typer.Option(min=1, max=256, help="Bands of the log-mel spectrum.", rich_help_panel=SOUND)
    ] = 40
    centred: Annotated[
        bool | None,
        typer.Option(
            help="Subtract each band's mean over the sound.  [default: where sounds change, as words do]",
            rich_help_panel=SOUND,
        ),
    ] = None
    warp: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share by which frequencies rise or fall in training.", rich_help_panel=SOUND),
    ] = 0.2
    tempo: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share by which sounds are faster or slower.", rich_help_panel=SOUND),
    ] = 0.2
    masks: Annotated[
        int,
        typer.Option(min=0, max=10, help="Ranges of bands, and of steps, that are covered.", rich_help_panel=SOUND),
    ] = 0
    hidden_size: Annotated[
        int, typer.Option(min=1, help="Size of the GRU's state in each direction.", rich_help_panel=MODEL)
    ] = 64
    num_layers: Annotated[int, typer.Option(min=1, help="Layers of the GRU.", rich_help_panel=MODEL)] = 1
    bidirectional: Annotated[
        bool,
        typer.Option(
            help="Read from both ends; without it, also a sequence that comes in parts.", rich_help_panel=MODEL
        ),
    ] = True
    noise: Annotated[
        float,
        typer.Option(min=0, max=10, help="Deviation of the noise on the standardised input.", rich_help_panel=MODEL),
    ] = 0.5
    dropout: Annotated[
        float, typer.Option(min=0, max=0.99, help="Dropout before the last layer.", rich_help_panel=MODEL)
    ] = 0.5
    epochs: Epochs = 60
    patience: Patience = 20
    batch_size: BatchSize = 16
    lr: LearningRate = 3e-3

    def __post_init__(self) -> None:
        """InputError for targets that contradict each other."""
        _ = self.targets

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files of the data."""
        return tuple(name for name in (self.data, self.test, self.start_from) if name)


@dataclass(frozen=True)
class SignalsPredictOptions:
    """`predict` needs to be told nothing: the model knows what it hears."""
