"""Run the notebooks of docs/ and write what their cells show into them: `python website/notebooks.py`."""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path, folder: Path) -> NotebookNode:
    """A notebook, its cells run anew in a process whose current folder is `folder`."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, kernel_name="python3", timeout=120, startup_timeout=120, resources=resources).execute()
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def shown(cell: NotebookNode) -> str:
    """The text that a cell shows, without pictures; a stream comes in as many parts as it likes."""
    outputs = cell.get("outputs", [])
    return "".join(output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs)


def main() -> None:
    """Run all."""
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)


if __name__ == "__main__":
    main()
