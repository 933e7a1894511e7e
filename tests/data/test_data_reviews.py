from pathlib import Path

import pytest

from fastgru.data import reviews
from fastgru.data.packaged import Packaged

SNIPPETS = "1\t2.5\tA fine film.\r\n2\t-1.5\tDull caf\u00e9 talk.\r\n3\t0.0\tNeither here nor there."


def test_load_reviews_labels_by_the_sign_of_the_rating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "snippets.txt"
    file.write_bytes(SNIPPETS.encode())
    monkeypatch.setattr(Packaged, "fetch", lambda self: [file])
    rows = reviews.load_reviews()
    assert rows.texts == ["A fine film.", "Dull caf\u00e9 talk.", "Neither here nor there."]
    assert rows.labels == ["positive", "negative", "negative"]
    assert rows.soft_labels is not None
    assert [round(soft_label["positive"], 3) for soft_label in rows.soft_labels] == [0.924, 0.182, 0.5]
    assert all(sum(soft_label.values()) == pytest.approx(1) for soft_label in rows.soft_labels)


def test_the_real_reviews() -> None:
    rows = reviews.load_reviews()
    assert len(rows) == 10_605
    assert rows.labels.count("positive") == 5_242
    assert rows.texts[2] == "Effective but too tepid biopic"
    assert rows.labels[2] == "negative"
    assert sum("\u00e9" in text for text in rows.texts) > 50
