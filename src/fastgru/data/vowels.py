"""Japanese Vowels: real speech of nine men, who is to be told by how he says /ae/ (Kudo, Toyama, Shimbo 1999).

640 utterances of the two vowels one after the other, 7 to 29 frames of 12 LPC cepstrum coefficients; 270 of them, 30 a
speaker, are the standard training set and 370 the standard test set. They come inside aeon 1.6.0, which pip fetches;
they are not part of fastgru.
"""

from fastgru.data.packaged import Member, Packaged
from fastgru.data.sequences import LabelledSequences
from fastgru.data.series_file import read_labelled_series

_FOLDER = "aeon/datasets/data/JapaneseVowels/"

VOWELS = Packaged(
    what="the Japanese vowels",
    requirement="aeon==1.6.0",
    archive="aeon-1.6.0-py3-none-any.whl",
    sha256="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    megabytes=6.4,
    members=(
        Member(
            (f"{_FOLDER}JapaneseVowels_TRAIN.ts",), "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd"
        ),
        Member(
            (f"{_FOLDER}JapaneseVowels_TEST.ts",), "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462"
        ),
    ),
)


def load_vowels() -> tuple[LabelledSequences, LabelledSequences]:
    """Give the standard parts, train [270] and test [370]; the labels are the speakers, "1" to "9"."""
    train, test = (read_labelled_series(str(path)) for path in VOWELS.fetch())
    return train, test
