"""The house's docstrings as Markdown: `name [T, B] dtype: meaning` becomes a list, an example becomes code.

The docstrings are plain text that `help()` shows as it is. Here a line that begins with names and a colon is an item,
a line that begins with what is raised or returned a paragraph, and what is indented or begins with `>>>` is code.
"""

import re

import griffe

NAMES = r"[a-z_]\w*(?:, [a-z_]\w*)*"
MARKED = r"`[\w.]+(?: \[[^`]*)?`(?: [A-Z])?(?:,? (?:and )?`[\w.]+(?: \[[^`]*)?`(?: [A-Z])?)*"
ITEM = re.compile(rf"({MARKED}|{NAMES}): (.*)")
NEXT_ITEM = re.compile(rf"(?<=[.;]) (?={MARKED}: )")  # on the same line
ERROR = re.compile(r"[A-Z]\w*(Error|Interrupt) ")  # "ValueError for ..." says what is raised
TOLD = re.compile(r"(Raises|Returns|Gives|Source:|[A-Z]\w*Error\b)")


class HouseStyle(griffe.Extension):
    """Rewrites every docstring of the package while it is read."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """The whole of a docstring."""
    paragraphs = re.split(r"\n\s*\n", docstring.strip("\n"))
    return "\n\n".join(map(_paragraph, paragraphs))


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if lines[0].startswith(">>>"):
        return "\n".join(["``` pycon", *lines, "```"])
    if all(line.startswith("    ") for line in lines):
        return "\n".join(["``` text", *(line[4:] for line in lines), "```"])
    if lines[0] == "Args:":
        lines = [line[4:] for line in lines[1:]]
    blocks: list[str] = []
    for line in lines:
        is_new = ITEM.match(line) or (TOLD.match(line) and blocks and blocks[-1].endswith("."))
        if is_new or not blocks:
            blocks.append(line)
        else:
            blocks[-1] += f" {line.strip()}"
    return "\n\n".join(_item(part) for block in blocks for part in _items(block))


def _items(block: str) -> list[str]:
    """Those that stand one after the other."""
    return NEXT_ITEM.split(block) if ITEM.match(block) else [block]


def _item(text: str) -> str:
    item = ITEM.match(text)
    if item is None:
        return f"Raises {text}" if ERROR.match(text) else text
    names = item[1] if "`" in item[1] else ", ".join(f"`{name}`" for name in item[1].split(", "))
    return f"- {names}: {item[2].rstrip(';')}"
