"""A page that shows what each word of a text did to its label: one HTML file that needs nothing else."""

import math
from html import escape
from pathlib import Path

from fastgru.common.files import atomic_write
from fastgru.models.attribution import Attribution

FOR, AGAINST = "38, 110, 190", "214, 106, 20"  # blue and orange, which every kind of colour vision tells apart
STRONGEST = 8  # words in a text's list of bars

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
</style>
</head>
<body>
<h1>What each word did</h1>
<p class="note"><mark style="background: rgba({for_}, .45)">blue</mark> words speak for the label that the text was
given, <mark style="background: rgba({against}, .45)">orange</mark> ones against it, the stronger the colour the more.
A score is what the word added to the label's log odds: 0.7 doubles the odds, -0.7 halves them. Integrated gradients
(Sundararajan, Taly and Yan 2017) over the word vectors, from vectors of zero.</p>
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
<p class="text">{_marked(one, largest)}</p>
<table>
{_bars(one, largest)}
</table>
<p class="note">log odds {total:+.2f} = {one.base:+.2f} of a text without words {math.fsum(one.scores):+.2f} of its
words {one.gap:+.3f} that the sum left over</p>
</article>"""


def _marked(one: Attribution, largest: float) -> str:
    parts, done = [], 0
    for (start, end), score in zip(one.spans, one.scores, strict=True):
        parts.append(escape(one.text[done:start]))
        style = f"background: rgba({_colour(score)}, {0.7 * abs(score) / largest:.3f})"
        parts.append(f'<mark style="{style}" title="{score:+.3f}">{escape(one.text[start:end])}</mark>')
        done = end
    return "".join(parts) + escape(one.text[done:])


def _bars(one: Attribution, largest: float) -> str:
    order = sorted(range(len(one.scores)), key=lambda token: -abs(one.scores[token]))[:STRONGEST]
    words = {token: one.text[slice(*one.spans[token])] or "(no word)" for token in order}
    return "\n".join(_bar(words[token], one.scores[token], largest) for token in order)


def _bar(word: str, score: float, largest: float) -> str:
    style = f"width: {100 * abs(score) / largest:.1f}%; background: rgb({_colour(score)})"
    number = f'<td class="number">{score:+.3f}</td>'
    return f'<tr><td>{escape(word)}</td>{number}<td class="bar"><div style="{style}"></div></td></tr>'


def _colour(score: float) -> str:
    return FOR if score > 0 else AGAINST
