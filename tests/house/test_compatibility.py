"""docs/compatibility.md says what the probes find, row by row."""

import pytest
from compatibility import PAGE, cells, verdict
from probes import KINDS, SECTIONS, Kind
from probes.runtimes import aot_inductor

ROWS = [(capability, function) for probes in SECTIONS.values() for capability, function in probes.items()]


@pytest.mark.parametrize("kind", KINDS, ids=["torch", "fastgru"])
@pytest.mark.parametrize("number", range(len(ROWS)), ids=[function.__name__ for _, function in ROWS])
def test_the_page_says_what_a_probe_finds(number: int, kind: Kind) -> None:
    capability, function = ROWS[number]
    if function is aot_inductor and kind is KINDS[0]:
        pytest.skip("torch's own program takes minutes to compile: it is looked at when the page is written anew")
    assert verdict(function, kind) == cells(PAGE.read_text())[capability][KINDS.index(kind)]


def test_the_page_has_every_row_and_no_other() -> None:
    assert list(cells(PAGE.read_text())) == [capability for capability, _ in ROWS]


def test_a_probe_that_fails_gives_the_first_words_of_its_error() -> None:
    def raising(kind: Kind) -> None:
        raise ValueError("a | b at 0x7f00 " + "word " * 40)

    assert verdict(raising, KINDS[0]).startswith("fails: ValueError: a b at word word")
    assert len(verdict(raising, KINDS[0])) < 110
