"""How often what a trained sequence-to-sequence model writes is right."""

import math
from dataclasses import dataclass

from rich.console import Console

from fastgru.data.labelled import LabelledTexts
from fastgru.data.pairs import references
from fastgru.inference.generation import TextGenerator
from fastgru.training.translate.bleu import CorpusScores, corpus_scores
from fastgru.training.translate.errors import count_errors, error_rates
from fastgru.training.wrong import WrongAnswer


@dataclass(frozen=True)
class TranslateMeasures:
    """How a model did on N sources, each with all of its references.

    `sequence_error`: share of sources whose output equals none of the references (for pronunciations the word error
    rate). `token_error`: edits to the closest references over the tokens of these (the phoneme error rate).
    `beam`: hypotheses of the search. `corpus`: BLEU and chrF, of sentences.
    `errors`: each wrong output beside its references, the surest first.
    """

    sources: int
    sequence_error: float
    token_error: float
    beam: int
    corpus: CorpusScores | None
    errors: list[WrongAnswer]

    def show(self, source: str, console: Console) -> None:
        """Print the rates."""
        console.print(
            f"{source}: {self.sources:,} sources, beam {self.beam}: "
            f"sequence error {self.sequence_error:.4f}   token error {self.token_error:.4f}",
            highlight=False,
            soft_wrap=True,
        )
        if self.corpus is not None:
            console.print(f"BLEU {self.corpus.bleu:.2f}   chrF {self.corpus.chrf:.2f}", highlight=False)


def measure(model: TextGenerator, rows: LabelledTexts, *, beam: int) -> TranslateMeasures:
    """Measure `model` on `rows`; those with the same source are references of one another."""
    known = references(rows)
    written = [several[0] for several in model.predict(known, beam=beam)]
    errors = [count_errors(model, one.text, several) for one, several in zip(written, known.values(), strict=True)]
    wrong = [
        WrongAnswer(source, " | ".join(several), one.text, math.exp(one.score))
        for (source, several), one, found in zip(known.items(), written, errors, strict=True)
        if found.wrong
    ]
    sequence_error, token_error = error_rates(errors)
    return TranslateMeasures(
        sources=len(known),
        sequence_error=sequence_error,
        token_error=token_error,
        beam=beam,
        corpus=corpus_scores([one.text for one in written], list(known.values())),
        errors=sorted(wrong, key=lambda one: -one.probability),
    )
