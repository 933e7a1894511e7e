"""The ready pronunciation model beside what it was made of and beside g2p_en: `python -m benchmarks.pronunciation`.

    python -m benchmarks.pronunciation                      # the model in the package, and g2p_en
    python -m benchmarks.pronunciation runs/pronunciation   # a run's, as float32 and as int8
    python -m benchmarks.pronunciation runs/pronunciation --write src/fastgru/pretrained/pronunciation

Word and phoneme errors on all words of the test part, with each of their pronunciations in the CMU Pronouncing
Dictionary as references, and words per second on one thread: in batches, and one word after the other. The contenders
take turns, a share of the words each time. It exits with 1 below a bar: of int8 beside float32 (MOST_LOST and
LEAST_ALIKE), of size, and of g2p_en, whose search is greedy: ours must make fewer errors, and be faster in batches, and
one by one with a greedy search too.

g2p_en (PyPI, 2.1.0) learned from the same dictionary: most of these words it has seen, and ours has seen none. Its
answers have stresses; they are compared with the dictionary's, and without stress as ours are.

With --write the int8 model of the run goes into the folder, where no bar is missed, and the card with these numbers.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy asks

import torch

import fastgru
from fastgru import runtime
from fastgru.cli.benchmark import machine
from fastgru.data.pairs import PRONUNCIATIONS, load_pairs, references
from fastgru.data.pronunciations import load_pronunciations
from fastgru.inference.folder import READY
from fastgru.inference.generation import TextGenerator
from fastgru.models import Seq2Seq, seq2seq_from_g2p_en
from fastgru.training.card import Card, table
from fastgru.training.run_folder import RunFolder
from fastgru.training.translate.errors import count_errors, error_rates

NAME = "pronunciation"
LEAST_ALIKE = 0.97  # of int8's words, the float32 model's
MOST_LOST = 0.003  # of the share of right words
MOST_BYTES = 3_000_000
ROUNDS, SINGLE = 6, 300  # turns of each contender, and words that are asked for one by one

USE = f"""    pip install fastgru
    fastgru predict {NAME} recurrent

    from fastgru import runtime

    model = runtime.load("{NAME}")  # without torch; fastgru.models.Seq2Seq.from_pretrained has it too
    model.predict(["recurrent"])

It reads English words, in letters and apostrophes, and writes how they are pronounced in North America, in the phonemes
of ARPABET without stress. Words are read in lower case; whatever else they hold is unknown to it.
"""
ABOUT = f"""{{alike:.2%}} of the words are written alike by int8 and float32. A word is right where what is written is
one of its pronunciations in the dictionary. Ours searches with a beam of 5 and has seen none of these words; g2p_en, a
GRU too, learned from the same dictionary, most of these words among what it learned.

## Made by

    python -m benchmarks.pronunciation runs/{NAME} --write src/fastgru/pretrained/{NAME}

of the run that the command under Training leaves: it quantizes the model, measures both, and writes this card.

## Licence

The weights were learned from the CMU Pronouncing Dictionary, copyright Carnegie Mellon University. Its licence (BSD,
two clauses) is in LICENSE, and goes with them.
"""
References = dict[str, list[str]]


@dataclass
class Contender:
    """A model and what it wrote.

    write: takes words, gives what each becomes; batches: whether it takes several at once. The rest is measured:
    written, in the order of the words; seconds of all of them, and of SINGLE words one by one.
    """

    name: str
    write: Callable[[Sequence[str]], list[str]]
    batches: bool = True
    written: list[str] = field(default_factory=list)
    seconds: float = 0.0
    single: float = 0.0

    def take(self, words: Sequence[str], single: Sequence[str]) -> None:
        """Write some words, and some one by one, and note the time."""
        begin = time.perf_counter()
        self.written += self.write(words)
        self.seconds += time.perf_counter() - begin
        begin = time.perf_counter()
        for word in single:
            self.write([word])
        self.single += time.perf_counter() - begin

    @property
    def words_per_second(self) -> float:
        """In batches, where it has them."""
        return len(self.written) / self.seconds

    def __str__(self) -> str:
        batched = f"{self.words_per_second:,.0f}" if self.batches else ""
        return f"{batched} | {SINGLE / self.single:,.0f}"


@dataclass(frozen=True)
class Rates:
    """Word and phoneme error of what was written."""

    words: float
    phonemes: float

    @classmethod
    def of(cls, model: TextGenerator, written: Sequence[str], known: References) -> "Rates":
        """Compare with all pronunciations of each word; `model` tells the tokens."""
        found = [count_errors(model, one, several) for one, several in zip(written, known.values(), strict=True)]
        return cls(*error_rates(found))

    def __str__(self) -> str:
        return f"{self.words:.2%} | {self.phonemes:.2%}"


def searching(model: TextGenerator, **options: int) -> Callable[[Sequence[str]], list[str]]:
    """What writes with a model of ours; `options`: of `predict`."""
    return lambda words: [several[0].text for several in model.predict(words, **options)]


def load_g2p_en() -> Any:
    """The package's G2p, without the dictionaries that it would fetch, which its GRUs do not need."""
    with mock.patch("nltk.data.find"):
        module = import_module("g2p_en.g2p")
        dictionaries = {"cmudict": SimpleNamespace(dict=dict), "construct_homograph_dictionary": dict}
        with mock.patch.multiple(module, **dictionaries):
            return module.G2p()


def contenders(run: Path | None, folder: Path) -> dict[str, Contender]:
    """Ours, in torch and without it, and g2p_en's where it is installed."""
    found = [
        Contender("int8, fastgru.runtime", searching(runtime.load(folder))),
        Contender("int8, fastgru.runtime, greedy", searching(runtime.load(folder), beam=1)),
        Contender("int8, torch", searching(Seq2Seq.from_pretrained(folder))),
    ]
    if run is not None:
        found.append(Contender("float32, fastgru.runtime", searching(runtime.load(run))))
        found.append(Contender("float32, torch", searching(Seq2Seq.from_pretrained(run))))
    if find_spec("g2p_en"):
        package = load_g2p_en()
        weights = seq2seq_from_g2p_en(package.variables)
        found.append(Contender("g2p_en's weights, fastgru.models", searching(weights, beam=1, max_length=20)))
        own = Contender("g2p_en", lambda words: [" ".join(package.predict(word)) for word in words], batches=False)
        found.append(own)
    return {one.name: one for one in found}


@dataclass(frozen=True)
class Result:
    """What was measured: contenders by name, their rates, and those of g2p_en with stress; size in bytes."""

    contenders: dict[str, Contender]
    rates: dict[str, Rates]
    with_stress: Rates | None
    size: int

    @property
    def alike(self) -> float | None:
        """The share of words that int8 writes as float32 does."""
        if "float32, fastgru.runtime" not in self.contenders:
            return None
        pair = (self.contenders[f"{bits}, fastgru.runtime"].written for bits in ("float32", "int8"))
        same = [one == other for one, other in zip(*pair, strict=True)]
        return sum(same) / len(same)

    def short(self) -> list[str]:
        """The bars that are missed, in words."""
        small, found = self.rates["int8, fastgru.runtime"], []
        if self.size > MOST_BYTES:
            found.append(f"{self.size:,} bytes of {MOST_BYTES:,}")
        if self.alike is not None:
            lost = small.words - self.rates["float32, fastgru.runtime"].words
            found += [f"{self.alike:.2%} of the words alike, of {LEAST_ALIKE:.0%}"] * (self.alike < LEAST_ALIKE)
            found += [f"{lost:.2%} more words wrong than float32, of {MOST_LOST:.1%}"] * (lost > MOST_LOST)
        if self.with_stress is not None:
            rival, theirs = self.rates["g2p_en"], self.contenders["g2p_en"]
            ours, greedy = (self.contenders[f"int8, fastgru.runtime{how}"] for how in ("", ", greedy"))
            is_better = small.words < rival.words and small.phonemes < rival.phonemes
            found += [] if is_better else ["g2p_en makes fewer errors"]
            is_faster = greedy.single < theirs.single and ours.words_per_second > theirs.words_per_second
            found += [] if is_faster else ["g2p_en is faster"]
        return found

    def lines(self) -> list[str]:
        """A table, and what belongs to it."""
        lines = ["| | word error | phoneme error | words a second | one by one |", "|---|--:|--:|--:|--:|"]
        lines += [f"| {name} | {self.rates[name]} | {one} |" for name, one in self.contenders.items()]
        if self.with_stress is not None:
            lines.append(f"| g2p_en, stress against the dictionary's | {self.with_stress} | | |")
        alike = "" if self.alike is None else f", {self.alike:.2%} of its words as float32 writes them"
        return [*lines, "", f"int8: {self.size:,} bytes{alike}"]


def measure(run: Path | None, folder: Path) -> Result:
    """Let all contenders write the words of the test part."""
    torch.set_num_threads(1)
    known = references(load_pairs(PRONUNCIATIONS, "source", "target").test)
    those, words = contenders(run, folder), [*known]
    for turn in range(ROUNDS):
        first, last = (len(words) * place // ROUNDS for place in (turn, turn + 1))
        for one in those.values():
            one.take(words[first:last], words[first : first + SINGLE // ROUNDS])
    ours = Seq2Seq.from_pretrained(folder)
    written = {name: [re.sub(r"\d", "", text) for text in one.written] for name, one in those.items()}
    rates = {name: Rates.of(ours, texts, known) for name, texts in written.items()}
    theirs = those.get("g2p_en")
    with_stress = None if theirs is None else _with_stress(theirs, words)
    return Result(those, rates, with_stress, sum(path.stat().st_size for path in folder.iterdir()))


def _with_stress(theirs: Contender, words: list[str]) -> Rates:
    stressed = references(load_pronunciations(stress=True))
    known = {word: stressed[word] for word in words}
    return Rates.of(seq2seq_from_g2p_en(load_g2p_en().variables), theirs.written, known)


def write_card(run: RunFolder, folder: Path, result: Result) -> None:
    """The model card, with the numbers that were measured; needs g2p_en and the run's float32 model among them."""
    options = run.read_options()
    small = result.rates["int8, fastgru.runtime"]
    tested = {"sequence_error": small.words, "token_error": small.phonemes}
    shown = {"int8, the model here": "int8, fastgru.runtime", "float32, before": "float32, fastgru.runtime"}
    rows = [(title, *str(result.rates[name]).split(" | ")) for title, name in shown.items()]
    rows.append(("g2p_en 2.1.0, its stress left out", *str(result.rates["g2p_en"]).split(" | ")))
    rows.append(("g2p_en 2.1.0, stress against the dictionary's", *str(result.with_stress).split(" | ")))
    title = f"On the {len(result.contenders['g2p_en'].written):,} words of the test part"
    sections = [table(title, ("", "word error", "phoneme error"), rows), ABOUT.format(alike=result.alike)]
    task = run.task
    Card(
        task,
        NAME,
        # The weights' own licence, which the run was not told
        type(options)(**{**vars(options), "language": "en", "license": "bsd-2-clause"}),
        task.load_data(options),
        Seq2Seq.from_pretrained(folder),
        task.best_by(options).of(run.read_log()),
        tested,
        USE,
        sections,
    ).write(folder)


def main() -> None:
    """Measure and print; with --write put the model into its folder; exit with 1 below a bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="folder of a run of fastgru train translate")
    parser.add_argument("--write", type=Path, help="folder for its int8 model and card")
    given = parser.parse_args()
    if given.write is not None and given.run is None:
        parser.error("--write needs the run")
    with tempfile.TemporaryDirectory() as name:
        folder = READY / NAME
        if given.run is not None:
            folder = Path(name)
            fastgru.quantize(Seq2Seq.from_pretrained(given.run), matrices="int8").save_pretrained(folder)
            shutil.copyfile(given.run / "train.json", folder / "train.json")
            shutil.copyfile(READY / NAME / "LICENSE", folder / "LICENSE")
        result = measure(given.run, folder)
        print(f"{machine()}, {fastgru.info().native}\n")
        print("\n".join(result.lines()))
        if result.short():
            sys.exit(f"SHORT: {'; '.join(result.short())}")
        if given.write is not None:
            write_card(RunFolder(given.run), folder, result)
            given.write.mkdir(parents=True, exist_ok=True)
            for file in folder.iterdir():
                shutil.copyfile(file, given.write / file.name)


if __name__ == "__main__":
    main()
