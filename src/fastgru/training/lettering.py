"""Lettering of pictures: names that fit, in fonts that have their characters."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

MOST = 20  # characters of a name
OWN = "DejaVu Sans"  # comes with matplotlib
BOX = "□"

_log = logging.getLogger(__name__)


def shortened(names: Sequence[str], most: int = MOST) -> list[str]:
    """Give each name in one line of `most` characters; where two would be cut to the same, both ends are kept."""
    lines = [" ".join(name.split()) for name in names]
    cut = [line if len(line) <= most else line[: most - 1] + "…" for line in lines]
    ends = most - 1 - (most - 1) // 2
    return [
        short if short == line or cut.count(short) == 1 else line[: (most - 1) // 2] + "…" + line[-ends:]
        for line, short in zip(lines, cut, strict=True)
    ]


def legible(names: Sequence[str], what: str) -> list[str]:
    """Give names that this machine's fonts can write: one that none can is numbered, which is told.

    `what`: the names are of, such as "label"; it stands before the number.
    """
    missing = _missing("".join(names))
    unreadable = [name for name in names if missing.intersection(name)]
    if unreadable:
        _log.info("%s: in the picture such a %s is a number, in the order of the table", _told(unreadable), what)
    return [f"{what} {place}" if name in unreadable else name for place, name in enumerate(names, start=1)]


def boxed(texts: Sequence[str]) -> list[str]:
    """Give texts with a box in the place of each character that no font of this machine has, which is told."""
    missing = _missing("".join(texts))
    if missing:
        _log.info("%s: in the picture each of these is a box", _told(sorted(missing)))
    return ["".join(BOX if character in missing else character for character in text) for text in texts]


def _told(names: list[str]) -> str:
    some = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if names[3:] else "")
    return f"no font here has the characters of {some} (one that has: Noto Sans CJK)"


@contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[None]:
    """Draw and save in here: matplotlib takes each character from the first of these fonts that has it."""
    from matplotlib import rc_context

    families = _families("".join(sorted(set("".join(texts)))))
    with rc_context({"font.family": families}):
        yield


def _missing(text: str) -> set[str]:
    """The characters of `text` that none of the fonts has."""
    have = set().union(*(_characters(family) for family in _families("".join(sorted(set(text))))))
    return {character for character in text if ord(character) not in have and not character.isspace()}


@cache
def _families(characters: str) -> list[str]:
    """Give matplotlib's own font, and those of the machine that have what it has not: as few as are needed."""
    families, wanted = [OWN], {ord(character) for character in characters if not character.isspace()}
    wanted -= _characters(OWN)
    names = sorted(_files()) if wanted else []
    while wanted and names:
        best = max(names, key=lambda name: len(wanted & _characters(name)))
        if not wanted & _characters(best):
            break
        families.append(best)
        wanted -= _characters(best)
    return families


@cache
def _files() -> dict[str, str]:
    """The upright fonts of usual weight and width on this machine: their names and files."""
    from matplotlib.font_manager import fontManager

    usual = [font for font in fontManager.ttflist if font.style == "normal" and font.stretch == "normal"]
    usual = [font for font in usual if not font.name.startswith("Last Resort")]  # boxes for everything
    return {font.name: font.fname for font in usual if font.weight in (400, "normal", "regular", "book")}


@cache
def _characters(family: str) -> set[int]:
    """The code points that a font has glyphs for; none for a font whose file cannot be drawn, as coloured ones'."""
    from matplotlib.font_manager import get_font

    try:
        return set(get_font(_files()[family]).get_charmap())
    except (OSError, RuntimeError, KeyError):
        return set()
