"""A page that shows what each word of a text did to its label: one HTML file that needs nothing else."""

import math
from html import escape
from pathlib import Path

from fastgru.common.files import atomic_write
from fastgru.models.attribution import Attribution

FOR, AGAINST = "38, 110, 190", "214, 106, 20"  # blue and orange, which every kind of colour vision tells apart
NEUTRAL = "110, 119, 129"
STRONGEST = 8  # words in a text's list of bars
LABELS = 8  # bars of labels, the likeliest
FOLDED = 1200  # characters beyond which a text is folded, its first so many shown
SHOWN = 600

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What each word did</title>
<style>
body {{ font: 16px/1.7 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 50rem;
  margin: 2.5rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; line-height: 1.3; }}
h2 {{ font-size: 1rem; margin: 0 0 .5rem; }}
article {{ border-top: 1px solid #d5dae0; padding: 1.2rem 0; }}
p.text {{ font-size: 1.15rem; margin: 0 0 .8rem; overflow-wrap: anywhere; white-space: pre-wrap; }}
mark {{ color: inherit; border-radius: .25em; padding: .1em .15em; }}
.note {{ color: #56606b; font-size: .85rem; }}
td {{ padding: 0 .6rem 0 0; font-size: .85rem; line-height: 1.5; white-space: nowrap; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
td.bar {{ width: 16rem; }}
td.bar div {{ height: .7rem; border-radius: .2rem; }}
td.name {{ max-width: 14rem; overflow: hidden; text-overflow: ellipsis; }}
.unknown {{ text-decoration: underline dotted #56606b; text-underline-offset: .25em; }}
summary {{ cursor: pointer; color: #265f9e; font-size: .85rem; margin: 0 0 .8rem; }}
.tables {{ display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; align-items: flex-start; }}
th {{ text-align: left; font-size: .85rem; font-weight: 600; padding: 0 0 .2rem; }}
@media (max-width: 44rem) {{ td.bar {{ width: 8rem; }} }}
</style>
</head>
<body>
<h1>What each word did</h1>
<p class="note"><mark style="background: rgba({for_}, .45)">blue</mark> words speak for the label that the text was
given, <mark style="background: rgba({against}, .45)">orange</mark> ones against it, the stronger the colour the more.
A <span class="unknown">dotted line</span> stands under words that the training did not have: to the model they are all
the same. A score is what the word added to the label's log odds: 0.7 doubles the odds, -0.7 halves them. Integrated
gradients (Sundararajan, Taly and Yan 2017) over the word vectors, from vectors of zero.</p>
{articles}
</body>
</html>
"""


def write_page(attributions: list[Attribution], path: Path) -> None:
    """Write the page for these texts, in their order; a reader never meets half of it."""
    articles = "\n".join(_article(one) for one in attributions)
    with atomic_write(path) as temporary:
        temporary.write_text(PAGE.format(for_=FOR, against=AGAINST, articles=articles), encoding="utf-8")


def _article(one: Attribution) -> str:
    largest = max((abs(score) for score in one.scores), default=0.0) or 1.0
    total = one.base + math.fsum(one.scores) + one.gap
    return f"""<article>
<h2>{escape(one.label)}, probability {one.probability:.3f}</h2>
{_text(one, largest)}
<div class="tables">
{_labels(one)}
<table>
<tr><th colspan="3">strongest words</th></tr>
{_bars(one, largest)}
</table>
</div>
<p class="note">log odds {total:+.2f} = {one.base:+.2f} of a text without words {math.fsum(one.scores):+.2f} of its
words {one.gap:+.3f} that the sum left over{_unknown_share(one)}</p>
</article>"""


def _text(one: Attribution, largest: float) -> str:
    """The marked text; of a long one the beginning, and the rest behind a line to click."""
    whole = len(one.text)
    cut = whole if whole <= FOLDED else next((start for start, _ in one.spans if start >= SHOWN), whole)
    if cut == whole:
        return f'<p class="text">{_marked(one, largest, 0, whole)}</p>'
    return f"""<p class="text">{_marked(one, largest, 0, cut)}</p>
<details><summary>{whole - cut:,} more characters</summary>
<p class="text">{_marked(one, largest, cut, whole)}</p></details>"""


def _labels(one: Attribution) -> str:
    """A bar for the probability of each label, likeliest first."""
    order = sorted(one.probabilities, key=lambda name: -one.probabilities[name])
    rows = [_bar(name, f"{one.probabilities[name]:.3f}", one.probabilities[name], NEUTRAL) for name in order[:LABELS]]
    if order[LABELS:]:
        rest = math.fsum(one.probabilities[name] for name in order[LABELS:])
        rows.append(_bar(f"{len(order) - LABELS} others", f"{rest:.3f}", rest, NEUTRAL))
    return '<table>\n<tr><th colspan="3">labels</th></tr>\n' + "\n".join(rows) + "\n</table>" if rows else ""


def _unknown_share(one: Attribution) -> str:
    return f"; {sum(one.unknown)} of {len(one.unknown)} words unknown" if any(one.unknown) else ""


def _marked(one: Attribution, largest: float, begin: int, end: int) -> str:
    """The text from `begin` to `end`, each word coloured."""
    parts, done = [], begin
    unknown = one.unknown or [False] * len(one.spans)
    for (start, stop), score, strange in zip(one.spans, one.scores, unknown, strict=True):
        if begin <= start and stop <= end:
            parts.append(escape(one.text[done:start]))
            style = f"background: rgba({_colour(score)}, {0.7 * abs(score) / largest:.3f})"
            title = f"{score:+.3f}" + (", unknown" if strange else "")
            kind = ' class="unknown"' if strange else ""
            parts.append(f'<mark{kind} style="{style}" title="{title}">{escape(one.text[start:stop])}</mark>')
            done = stop
    return "".join(parts) + escape(one.text[done:end])


def _bars(one: Attribution, largest: float) -> str:
    order = sorted(range(len(one.scores)), key=lambda token: -abs(one.scores[token]))[:STRONGEST]
    words = {token: one.text[slice(*one.spans[token])] or "(no word)" for token in order}
    return "\n".join(
        _bar(words[token], f"{one.scores[token]:+.3f}", abs(one.scores[token]) / largest, _colour(one.scores[token]))
        for token in order
    )


def _bar(name: str, number: str, share: float, colour: str) -> str:
    style = f"width: {100 * share:.1f}%; background: rgb({colour})"
    shown = f'<td class="name" title="{escape(name)}">{escape(name)}</td><td class="number">{number}</td>'
    return f'<tr>{shown}<td class="bar"><div style="{style}"></div></td></tr>'


def _colour(score: float) -> str:
    return FOR if score > 0 else AGAINST
