"""The notebooks of docs/: their cells run, and show what stands in them."""

from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from website import notebooks


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the packages that run notebooks
@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_its_cells_give(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cells = nbformat.read(path, as_version=4).cells
    found = notebooks.executed(path, tmp_path).cells
    for cell, again in zip(cells, found, strict=True):
        if "measured" in cell.metadata.get("tags", []):  # by the machine, or to its last bits
            assert notebooks.shown(cell), cell.source
            assert notebooks.shown(again), cell.source
        else:
            assert notebooks.shown(again) == notebooks.shown(cell), cell.source


def test_a_cell_that_fails_fails_the_notebook(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "wrong.ipynb")
    with pytest.raises(CellExecutionError, match="division by zero"):
        notebooks.executed(tmp_path / "wrong.ipynb", tmp_path)
