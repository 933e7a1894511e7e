"""The site of docs/ and the docstrings: it is made without a warning, and every link in it leads somewhere."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import griffe
import nbformat
import pytest
from test_docstrings import NAMES

from website import docstrings, pages

ROOT = Path(__file__).parents[2]


def build(written: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs`; with --quiet mkdocs would take no warning for an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", site]
    return subprocess.run(
        [*command, "--config-file", ROOT / "website" / "mkdocs.yml"],
        capture_output=True,
        text=True,
        env={**os.environ, "FASTGRU_PAGES": str(written), "NO_MKDOCS_2_WARNING": "1"},
    )


@dataclass
class Page(HTMLParser):
    """What a page links to, the places in it that can be linked to, and what is fetched to show it."""

    path: Path
    links: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    fetched: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name == "id":
                self.places.add(value)
            elif value and name in ("href", "src") and tag != "link":
                self.links.add(value)
            if value and (name == "src" or (tag == "link" and name == "href" and ("rel", "stylesheet") in attrs)):
                self.fetched.add(value)

    __hash__ = object.__hash__


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("website")
    pages.write(folder / "pages")
    done = build(folder / "pages", folder / "site")
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    found = {path: Page(path) for path in site.rglob("*.html")}
    lost = []
    for path, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            missing = parts.fragment and target in found and unquote(parts.fragment) not in found[target].places
            if not target.is_file() or (missing and parts.fragment != "__comments"):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert len(found) > 25
    assert lost == []


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    found = [page for path in site.rglob("*.html") for page in Page(path).fetched]
    assert any(link.endswith(".js") for link in found)
    assert not [link for link in found if urlsplit(link).netloc]


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    places = set().union(*(Page(path).places for path in (site / "api").glob("*.html")))
    # what is public under two names is there under one
    again = {"fastgru.convert.accelerate": "fastgru.accelerate", "fastgru.convert.to_torch": "fastgru.to_torch"}
    assert {again.get(name, name) for name in NAMES} - places == set()


def test_a_page_that_is_nowhere_and_a_link_that_leads_nowhere_are_errors(tmp_path: Path) -> None:
    pages.write(tmp_path / "pages")
    for path in (tmp_path / "pages" / "api").iterdir():  # the slow ones
        path.write_text("# Nothing\n")
    Path(tmp_path, "pages", "astray.md").write_text("# Astray\n\n[lost](nowhere.md) [and](install.md#nowhere)\n")
    done = build(tmp_path / "pages", tmp_path / "site")
    assert done.returncode == 1
    assert 'not included in the "nav" configuration:\n  - astray.md' in done.stderr
    assert "'nowhere.md', but the target is not found" in done.stderr
    assert "'install.md#nowhere', but the doc 'install.md' does not contain an anchor '#nowhere'" in done.stderr


def test_links_between_files_become_links_between_pages(tmp_path: Path) -> None:
    for name in ("docs", "csrc", "docs/notebooks"):
        (tmp_path / name).mkdir()
    for name in pages.DOCUMENTS:
        Path(tmp_path, name).write_text(f"# {name}\n\n[a](docs/a.md#there) ![b](docs/b.svg) [c](https://example.org)\n")
    Path(tmp_path, "csrc", "c.h").write_text("int c;\n")
    Path(tmp_path, "docs", "b.svg").write_text("<svg/>")
    Path(tmp_path, "docs", "a.md").write_text(
        "# A\n\n[c](../csrc/c.h) [n](notebooks/n.ipynb) [r](../README.md) [x](x.md)\n\n```math\nx^2\n```\n"
    )
    notebook = nbformat.v4.new_notebook()
    drawn = nbformat.v4.new_output("display_data", {"image/png": "aGk=", "text/plain": "<Figure>"})
    said = nbformat.v4.new_output("stream", text="two\n")
    notebook.cells = [nbformat.v4.new_markdown_cell("# N"), nbformat.v4.new_code_cell("1 + 1", outputs=[said, drawn])]
    nbformat.write(notebook, tmp_path / "docs" / "notebooks" / "n.ipynb")

    written = tmp_path / "pages"
    pages.write(written, tmp_path)
    assert "[a](a.md#there) ![b](b.svg) [c](https://example.org)" in (written / "index.md").read_text()
    text = (written / "a.md").read_text()
    assert "[c](source/csrc/c.h.md) [n](notebooks/n.md) [r](index.md) [x](x.md)" in text
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in text
    assert "``` cpp\nint c;\n```" in (written / "source" / "csrc" / "c.h.md").read_text()
    text = (written / "notebooks" / "n.md").read_text()
    assert text.startswith("# N\n\n``` python\n1 + 1\n```\n\n``` {.text .output}\ntwo\n```\n\n![")
    assert (written / "notebooks" / "n-1.png").read_bytes() == b"hi"
    shutil.rmtree(tmp_path / "docs" / "notebooks")
    pages.write(written, tmp_path)
    assert not (written / "notebooks").exists()


def test_docstrings_become_lists_and_code() -> None:
    text = """What.

    h' = f(h)

Args:
    x, y: of one
        thing.
    z: of another.

`a [T, B] int64`, `b`: those, or
InputError in a sentence. `c`: this; `d`: that. ValueError is no item here.
`e`: the last; continued
on a line.
ValueError for none.
Raises more.

A paragraph: one.

>>> 1 + 1
2"""
    assert docstrings.as_markdown(text) == (
        "What.\n\n``` text\nh' = f(h)\n```\n\n- `x`, `y`: of one thing.\n\n- `z`: of another.\n\n"
        "- `a [T, B] int64`, `b`: those, or InputError in a sentence.\n\n- `c`: this\n\n"
        "- `d`: that. ValueError is no item here.\n\n- `e`: the last; continued on a line.\n\n"
        "Raises ValueError for none.\n\nRaises more.\n\nA paragraph: one.\n\n``` pycon\n>>> 1 + 1\n2\n```"
    )


def test_the_reference_shows_docstrings_as_markdown() -> None:
    extensions = griffe.load_extensions(docstrings.HouseStyle)
    package = griffe.load("fastgru.about", search_paths=[ROOT / "src"], extensions=extensions)
    assert "- `layer`: a GRU;" in package["info"].docstring.value
