"""`fastgru predict` for models of texts where NumPy and safetensors are all there is: no torch, no typer.

It takes the options of the whole command that such models answer to, and prints the same.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from fastgru.common.errors import InputError

if TYPE_CHECKING:
    from fastgru.inference.answers import AnsweredText, Translation

EXTRA = "pip install 'fastgru[train]'"


class _Parser(argparse.ArgumentParser):
    """One line for what it does not know, as the whole command says it."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; fastgru predict --help tells what there is, and more comes with: {EXTRA}")


def run(arguments: list[str]) -> None:
    """Print what a model says of texts, by the arguments of `fastgru predict`.

    Raises InputError for arguments, texts or a model that cannot be used, ModuleNotFoundError where the model's texts
    need `tokenizers`.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy asks: a second thread costs more than it gives
    from fastgru.data.table import STDIN, read_texts
    from fastgru.runtime.models import load_model

    given = _parser().parse_args(arguments)
    texts: list[str] = given.inputs
    file = given.file
    if texts == [STDIN] and file is None:
        texts, file = [], STDIN
    if (file is None) == (not texts):
        raise InputError("give texts, or a file of them with --file: one of the two")
    inputs = texts if file is None else read_texts(file, given.text)
    for answer in _answers(given, inputs, load_model(given.model)):
        print(json.dumps(asdict(answer), ensure_ascii=False) if given.as_json else answer.line())


def _answers(given: argparse.Namespace, inputs: list[str], model: Any) -> "Iterator[AnsweredText | Translation]":
    from fastgru.inference.answers import text_answer, translations

    kind = model.config.model_type
    if kind == "seq2seq":
        best = given.best or 1
        return translations(inputs, model.predict(inputs, beam=max(given.beam or 5, best), best=best))
    if kind != "text_classifier":
        raise InputError(f"{given.model} is a {kind}, whose inputs are read with more packages: {EXTRA}")
    if given.beam or given.best:
        raise InputError("--beam and --best are no options for a model of classify")
    return map(text_answer, inputs, model.predict(inputs))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastgru predict",
        description="Tell what a trained model of texts says of new ones, without torch.",
        epilog=f"Example: fastgru predict pronunciation recurrent. More options, and signals, come with: {EXTRA}",
        allow_abbrev=False,
    )
    parser.add_argument("model", help="a ready model's name, or the folder of a saved one")
    parser.add_argument("inputs", nargs="*", help="what to predict from; - reads standard input")
    parser.add_argument("--file", help="file with one input a line, - for standard input, or a table")
    parser.add_argument("--text", help="column of the texts, where --file is a table")
    parser.add_argument("--beam", type=_at_least_one, help="hypotheses of the beam search; 1 is greedy (default: 5)")
    parser.add_argument("--best", type=_at_least_one, help="answers for each input, likeliest first (default: 1)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object an input")
    parser.add_argument("--runtime", action="store_true", help="answer without torch, as is done here anyway")
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def main(arguments: list[str]) -> None:
    """As `run`, with bad input turned into one line and exit code 2."""
    try:
        run(arguments)
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(130)
    except (InputError, ModuleNotFoundError, OSError) as error:
        said = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            said = f"{error.filename} cannot be used: {error.strerror}"
        print(f"fastgru: {' '.join(said.split())}", file=sys.stderr)
        sys.exit(2)
