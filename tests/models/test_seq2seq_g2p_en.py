"""The pronunciation model of the package g2p_en as a Seq2Seq, against the package itself."""

import pydoc_data.topics
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastgru.common.errors import InputError
from fastgru.models import Seq2Seq, seq2seq_from_g2p_en
from fastgru.models.g2p_en import LETTERS, PHONEMES

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # the package's own

# English words that every Python brings: those of its own help, and what no dictionary has.
WORDS = sorted(set(re.findall(r"[a-z']+", str(pydoc_data.topics.topics).lower())))[::3]


def test_its_vocabularies_are_the_packages(g2p_en: Any) -> None:
    assert list(LETTERS) == g2p_en.graphemes[3:]
    assert g2p_en.phonemes[4:] == PHONEMES


def test_its_phonemes_are_the_packages_for_a_thousand_words(g2p_en: Any) -> None:
    assert len(WORDS) > 1000
    model = seq2seq_from_g2p_en(g2p_en.variables)
    found = model.predict(WORDS, beam=1, max_length=20)
    expected = [" ".join(g2p_en.predict(word)) for word in WORDS]
    assert [several[0].text for several in found] == expected


def test_it_is_saved_and_loaded_as_any_other(g2p_en: Any, tmp_path: Path) -> None:
    seq2seq_from_g2p_en(g2p_en.variables).save_pretrained(tmp_path)
    loaded = Seq2Seq.from_pretrained(tmp_path)
    assert loaded.predict(["Activationist"], beam=1)[0][0].text == " ".join(g2p_en.predict("activationist"))


def test_what_does_not_fit_is_refused(g2p_en: Any) -> None:
    checkpoint = dict(g2p_en.variables)
    with pytest.raises(InputError, match=r"fc_b must have the shape \(74,\), got \(3,\)"):
        seq2seq_from_g2p_en({**checkpoint, "fc_b": np.zeros(3, "f")})
    del checkpoint["enc_emb"]
    with pytest.raises(InputError, match=r"a checkpoint of g2p_en: enc_emb is missing|enc_emb.*missing"):
        seq2seq_from_g2p_en(checkpoint)
