"""Pictures: names that fit and can be written, the epoch that was kept, and what the page of explanations shows."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from small_text_model import build

from fastgru.models.attribution import Attribution, attribute
from fastgru.training import lettering
from fastgru.training.classify.page import FOLDED, write_page
from fastgru.training.confusion import draw_confusion
from fastgru.training.curves import draw_curves
from fastgru.training.lettering import boxed, legible, shortened
from fastgru.training.translate.maps import draw_attention


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved; they are drawn, where a warning would be an error."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *given, **options: (figures.append(self), save(self, *given)))
    return figures


@pytest.fixture
def no_other_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the font that comes with matplotlib, whatever the machine has."""
    files = {lettering.OWN: lettering._files()[lettering.OWN]}
    monkeypatch.setattr(lettering, "_files", lambda: files)
    monkeypatch.setattr(lettering, "_families", lettering._families.__wrapped__)


def written(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(match=lambda one: hasattr(one, "get_text"))]


def test_long_names_are_cut_and_stay_different() -> None:
    names = ["short", "a\nb", "x" * 20, "y" * 21, "customer services: questions", "customer services: answers"]
    cut = shortened(names)
    assert cut[:4] == ["short", "a b", "x" * 20, "y" * 19 + "…"]
    assert cut[4:] == ["customer … questions", "customer …s: answers"]
    assert max(map(len, cut)) == 20


def test_a_name_that_no_font_has_is_a_number(no_other_fonts: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastgru"):
        assert legible(["spam", "垃圾邮件"], "label") == ["spam", "label 2"]
    assert "no font here has the characters of '垃圾邮件' (one that has: Noto Sans CJK)" in caplog.text
    assert boxed(["a 垃圾"]) == ["a □□"]
    caplog.clear()
    assert (legible(["né", "ok"], "label"), boxed(["né"])) == (["né", "ok"], ["né"])
    assert not caplog.text


def test_a_font_is_taken_for_what_the_first_one_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    has = {lettering.OWN: set(range(128)), "Han": {ord("垃"), ord("圾")}, "One": {ord("垃")}, "Other": {ord("ž")}}
    monkeypatch.setattr(lettering, "_files", lambda: dict.fromkeys(has, ""))
    monkeypatch.setattr(lettering, "_characters", has.__getitem__)
    find = lettering._families.__wrapped__
    assert find("abc") == [lettering.OWN]
    assert find("a 垃圾") == [lettering.OWN, "Han"]
    assert find("垃圾ž☃") == [lettering.OWN, "Han", "Other"]


@pytest.mark.parametrize("count", [2, 13, 41])
def test_confusion_has_counts_and_per_cents(count: int, drawn: list[Figure], tmp_path: Path) -> None:
    labels = [f"label {number} of a long name" for number in range(count)]
    counts = np.zeros((count, count), int)
    counts[0, :2] = 1998, 2
    draw_confusion(labels, counts.tolist(), "texts\naccuracy 1", tmp_path / "c.png")
    texts = written(drawn[0])
    assert ("1,998\n>99 %" in texts) == ("2\n<1 %" in texts) == (count < 41)
    assert texts.count("0") == (2 if count == 2 else 0)
    assert {"texts\naccuracy 1", *shortened(labels)} <= set(texts)
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_confusion_of_labels_in_other_scripts_warns_of_nothing(no_other_fonts: None, tmp_path: Path) -> None:
    draw_confusion(["垃圾邮件", "工作", "spam $x$"], [[1, 2, 3]] * 3, "工作", tmp_path / "c.png")


def test_curves_mark_the_epoch_that_is_kept(drawn: list[Figure], tmp_path: Path) -> None:
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "validation_trend")
    rows: list[dict[str, float]] = [{"epoch": 1 + row, **dict.fromkeys(names, row / 8)} for row in range(4)]
    draw_curves(rows, tmp_path / "curves.png", rows[2], "signals: $run$")
    loss, accuracy = drawn[0].axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    legend = [text.get_text() for text in loss.get_legend().get_texts()]
    assert legend == ["train", "validation", "its running mean", "epoch kept: 3"]
    for axes in drawn[0].axes:
        assert [3, 3] in [list(line.get_xdata()) for line in axes.lines]
        assert "0.25" in written(axes)
    assert drawn[0].get_suptitle() == "signals: $run$"


def test_attention_maps_say_what_is_what(drawn: list[Figure], tmp_path: Path) -> None:
    class Model:
        def align(self, source: str, target: str) -> Any:
            weights = np.full((len(target.split()), len(source)), 1 / len(source))
            return SimpleNamespace(source=list(source), target=target.split(), weights=weights)

    sources, targets = ["ab", "$ 垃 $" * 9, "c", "d"], ["A B", "X Y Z", "C", "D"]
    draw_attention(Model(), sources, targets, str(tmp_path / "map.png"))
    first, *others = drawn[0].axes
    assert (first.get_xlabel(), first.get_ylabel(), first.get_title()) == ("read", "written", "ab\nA B")
    assert others[-1].get_ylabel() == "attention (a row sums to 1)"
    assert sum(bool(axes.get_title()) for axes in others) == 3


def test_page_marks_unknown_words_and_shows_every_label(tmp_path: Path) -> None:
    (one,) = attribute(build(), ["a zestful film"])
    assert one.unknown == [False, True, False]
    assert one.probabilities[one.label] == max(one.probabilities.values()) == pytest.approx(one.probability)
    write_page([one], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count('<mark class="unknown"') == 1
    assert "1 of 3 words unknown" in page
    for name, probability in one.probabilities.items():
        assert f'title="{name}">{name}</td><td class="number">{probability:.3f}</td>' in page


def test_page_folds_a_long_text_between_two_words(tmp_path: Path) -> None:
    words = ["film"] * (FOLDED // 4)
    text = " ".join(words)
    spans = [(5 * place, 5 * place + 4) for place in range(len(words))]
    labels = {f"label {number}": 0.05 for number in range(20)}
    one = Attribution(text, "label 0", 0.05, spans, [0.1] * len(words), 0.0, 0.0, probabilities=labels)
    whole = Attribution("x" * 2 * FOLDED, "label 0", 0.5, [(0, 2 * FOLDED)], [0.0], 0.0, 0.0)
    write_page([one, whole], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<details>") == 1
    assert page.count(">film</mark>") == len(words)
    assert f"{len(text) - 600:,} more characters" in page
    assert "12 others</td>" in page
    assert '"number">0.600</td>' in page
