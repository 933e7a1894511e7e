"""Write the site's pages into a folder, as plain Markdown that any generator takes: `python website/pages.py FOLDER`.

They are docs/, where links between files of the repository become links between pages; README.md as the start page and
the other documents beside it; every source that a page links to; the notebooks; and equations, as MathML.
"""

import base64
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
LINK = re.compile(r"\]\(([^)#\s:]+)(#[^)\s]*)?\)")
MATH = re.compile(r"^``` ?math\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
LANGUAGES = {".h": "cpp", ".c": "c", ".md": "markdown", ".rs": "rust", ".py": "python", "": "docker"}


def write(folder: Path, root: Path = ROOT) -> None:
    """All pages, from a checkout at `root`; what stands in `folder` goes."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "docs", folder)
    shutil.copy(Path(__file__).with_name("style.css"), folder)
    for path in folder.rglob("*.ipynb"):
        page, pictures = markdown_of(nbformat.read(path, as_version=4), path.stem)
        path.with_suffix(".md").write_text(page)
        for name, picture in pictures.items():
            path.with_name(name).write_bytes(picture)
    sources = [*(root / name for name in DOCUMENTS), *sorted((root / "docs").rglob("*.md"))]
    linked = set()
    for source in sources:
        page = folder / place(source, root)
        text, targets = turned(source.read_text(), source.parent, page.relative_to(folder), root)
        page.write_text(MATH.sub(lambda block: mathml(block[1]), text))
        linked |= {target for target in targets if not target.is_relative_to(root / "docs")}
    for path in linked - set(sources):
        page = folder / place(path, root)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"# {path.relative_to(root)}\n\n``` {LANGUAGES[path.suffix]}\n{path.read_text()}```\n")


def place(path: Path, root: Path) -> Path:
    """Where the site has a file of the repository."""
    name = path.relative_to(root)
    if str(name) in DOCUMENTS:
        return Path(DOCUMENTS[str(name)])
    if path.is_relative_to(root / "docs"):
        page = path.relative_to(root / "docs")
        return page.with_suffix(".md") if path.suffix == ".ipynb" else page
    return Path("source", f"{name}.md")


def turned(text: str, folder: Path, page: Path, root: Path) -> tuple[str, set[Path]]:
    """A document of `folder` with its links as `page` has them, and the files of the repository that it links to."""
    targets = set()

    def turn(link: re.Match[str]) -> str:
        path = Path(os.path.normpath(folder / link[1]))
        if not (path.is_file() and path.is_relative_to(root)):
            return link[0]  # the generator says what is wrong with it
        targets.add(path)
        return f"]({os.path.relpath(place(path, root), page.parent)}{link[2] or ''})"

    return LINK.sub(turn, text), targets


def mathml(source: str) -> str:
    """Equations, one a line, which browsers draw themselves."""
    lines = [line for line in source.splitlines() if line.strip()]
    return f'<div class="equations">{"".join(convert(line, display="block") for line in lines)}</div>'


def markdown_of(notebook: NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook's cells and their outputs as a page, and its pictures by their files' names."""
    text, pictures = [], {}
    for cell in notebook.cells:
        text.append(cell.source if cell.cell_type == "markdown" else f"``` python\n{cell.source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode(data["image/png"])
                text.append(f"![what the cell draws]({picture})")
            else:
                text.append(f"``` {{.text .output}}\n{data['text/plain'].rstrip()}\n```")
    text.append(f"[The notebook itself]({name}.ipynb){{download}}")
    return "\n\n".join(text) + "\n", pictures


if __name__ == "__main__":
    write(Path(sys.argv[1]).resolve())
