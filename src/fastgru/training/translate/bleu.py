"""BLEU and chrF of what a model wrote, by sacrebleu where it is installed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusScores:
    """BLEU (Papineni et al. 2002) and chrF (Popovic 2015) of all sources together, from 0 to 100.

    `signatures`: how sacrebleu computed each (Post 2018): two numbers compare where these are the same.
    """

    bleu: float
    chrf: float
    signatures: dict[str, str]


def corpus_scores(written: Sequence[str], references: Sequence[Sequence[str]]) -> CorpusScores | None:
    """Compare each output with all references of its source; None, which is told, without sacrebleu.

    None too where no reference has two words: these are measures of sentences.
    """
    if not any(" " in text.strip() for several in references for text in several):
        return None
    try:
        from sacrebleu import BLEU, CHRF
    except ModuleNotFoundError:
        _log.info("BLEU and chrF are told where sacrebleu is installed: pip install 'fastgru[bleu]'")
        return None
    streams = [list(stream) for stream in zip_longest(*references)]  # None where a source has fewer
    bleu, chrf = BLEU(), CHRF()
    scores = (bleu.corpus_score(list(written), streams).score, chrf.corpus_score(list(written), streams).score)
    return CorpusScores(*scores, {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())})
