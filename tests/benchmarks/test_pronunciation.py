"""The bars of the pronunciation model's benchmark, on made-up contenders; and what its card is made of."""

from dataclasses import replace

import pytest

from benchmarks.pronunciation import Contender, Rates, Result, searching
from fastgru import runtime

KNOWN = {"cat": ["K AE T"], "world": ["W ER L D"], "hello": ["HH AH L OW", "HH EH L OW"]}
INT8, FLOAT = "int8, fastgru.runtime", "float32, fastgru.runtime"


def contender(name: str, seconds: float, written: list[str]) -> Contender:
    return Contender(name, lambda words: [""] * len(words), written=written, seconds=seconds, single=seconds)


@pytest.fixture
def result() -> Result:
    """Two hundred words, of which int8 writes two otherwise; ours is faster than g2p_en and better."""
    words = [f"W{number}" for number in range(200)]
    those = [contender(INT8, 1, ["X", "Y", *words[2:]]), contender(f"{INT8}, greedy", 0.5, words)]
    those += [contender(FLOAT, 2, words), contender("g2p_en", 1.5, words)]
    rates = {INT8: Rates(0.25, 0.06), FLOAT: Rates(0.2485, 0.06), "g2p_en": Rates(0.27, 0.08)}
    return Result({one.name: one for one in those}, rates, Rates(0.31, 0.1), 2_600_000)


def test_what_reaches_its_bars_is_not_short(result: Result) -> None:
    assert result.alike == pytest.approx(0.99)
    assert result.short() == []


def test_each_bar_that_is_missed_is_said(result: Result) -> None:
    assert replace(result, size=3_000_001).short() == ["3,000,001 bytes of 3,000,000"]
    result.contenders[INT8].written[2:9] = ["Z"] * 7
    assert result.short() == ["95.50% of the words alike, of 97%"]
    result.contenders[INT8].written[:] = result.contenders[FLOAT].written
    worse = replace(result, rates={**result.rates, INT8: Rates(0.252, 0.06)})
    assert worse.short() == ["0.35% more words wrong than float32, of 0.3%"]
    for rival in (Rates(0.24, 0.08), Rates(0.27, 0.05)):
        assert replace(result, rates={**result.rates, "g2p_en": rival}).short() == ["g2p_en makes fewer errors"]
    for name, seconds in ((INT8, 1.6), (f"{INT8}, greedy", 1.6)):
        slow = contender(name, seconds, result.contenders[name].written)
        assert replace(result, contenders={**result.contenders, name: slow}).short() == ["g2p_en is faster"]


def test_a_contender_is_measured_as_it_writes() -> None:
    ours = Contender(INT8, searching(runtime.load("pronunciation")))
    ours.take(list(KNOWN)[:2], ["cat"])
    ours.take(list(KNOWN)[2:], [])
    assert len(ours.written) == 3
    assert ours.seconds > 0 < ours.single
    rates = Rates.of(runtime.load("pronunciation"), ours.written, KNOWN)
    assert rates == Rates(0.0, 0.0)
    wrong = Rates.of(runtime.load("pronunciation"), ["K AE", "W ER L D", "HH EH L OW"], KNOWN)
    assert (wrong.words, wrong.phonemes) == (pytest.approx(1 / 3), pytest.approx(1 / 11))
