"""The rooms of the package stand on floors, imports only run downwards and never in a circle, and no file is long."""

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fastgru

SOURCE = Path(fastgru.__file__).parent
ROOT = Path(__file__).parents[2]
LONGEST = 400  # lines of a file

# From the ground up. A module belongs to the first room that its name starts with. The package itself is on every
# floor: it holds the version and looks its public names up at first use.
FLOORS = [
    ["fastgru._native", "fastgru.common"],
    ["fastgru.inference"],
    ["fastgru.core"],
    ["fastgru.runtime"],
    ["fastgru.backends"],
    ["fastgru.ops"],
    ["fastgru.cell", "fastgru.inputs"],
    ["fastgru.nn"],
    ["fastgru.quantized"],
    ["fastgru.about", "fastgru.convert", "fastgru.warming"],
    ["fastgru.models"],
    ["fastgru.data"],
    ["fastgru.training"],
    ["fastgru.predict", "fastgru.sklearn"],
    ["fastgru.launch", "fastgru.predict_texts"],
    ["fastgru.startup"],
    ["fastgru.cli"],
    ["fastgru.__main__"],
]


def floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if any(module == room or module.startswith(f"{room}.") for room in rooms):
            return number
    raise LookupError(f"{module} stands on no floor: give it one in {Path(__file__).name}")


def name_of(path: Path) -> str:
    parts = ["fastgru", *path.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str) -> set[str]:
    """Every module of ours that a source imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError("imports are absolute here")
        elif isinstance(node, ast.ImportFrom):
            # `from fastgru import x`, where x may be a module of ours or a name in one
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in whole if is_module(name)} or {str(node.module)}
    return {name for name in found if name.startswith("fastgru.")}


def is_module(name: str) -> bool:
    path = SOURCE.joinpath(*name.split(".")[1:])
    return name == "fastgru._native" or path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def climbs(module: str, source: str) -> list[str]:
    """The imports of a module that do not run downwards; within one room they may run level."""
    room = module.split(".")[1]
    return [name for name in sorted(imports(source)) if name.split(".")[1] != room and floor(name) >= floor(module)]


def circle(sources: Mapping[str, str]) -> list[str]:
    """The modules of a circle of imports, the first one again at the end; none where there is no circle."""
    try:
        TopologicalSorter({module: imports(source) for module, source in sources.items()}).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


MODULES = sorted(path for path in SOURCE.rglob("*.py") if name_of(path) != "fastgru")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_run_downwards(path: Path) -> None:
    assert climbs(name_of(path), path.read_text()) == []


def test_an_import_that_climbs_is_found() -> None:
    assert climbs("fastgru.core.spec", "from fastgru import nn") == ["fastgru.nn"]
    assert climbs("fastgru.models.x", "def f():\n    import fastgru.training.y") == ["fastgru.training.y"]
    assert climbs("fastgru.models.x", "from fastgru.sklearn import y") == ["fastgru.sklearn"]
    assert climbs("fastgru.nn", "from fastgru.core.spec import GRUSpec\nimport torch") == []
    with pytest.raises(LookupError, match=r"fastgru\.attic stands on no floor"):
        floor("fastgru.attic")


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle({name_of(path): path.read_text() for path in MODULES}) == []


def test_a_circle_is_found() -> None:
    split, stream = "fastgru.data.split", "fastgru.data.stream"
    late = "def f():\n    from fastgru.data.stream import stream_splits"
    for_types = "if TYPE_CHECKING:\n    from fastgru.data import stream"
    for source in (late, for_types):
        found = circle({split: source, stream: "from fastgru.data.split import Splits"})
        assert found in ([split, stream, split], [stream, split, stream])
    assert circle({split: late, stream: "from fastgru.data.hub import open_hub"}) == []


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    code = [*(ROOT / "src").rglob("*.py"), *(ROOT / "csrc").rglob("*.*"), *(ROOT / "tests").rglob("*.py")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in code}
    assert len(lines) > 100
    assert {path: count for path, count in lines.items() if count > LONGEST} == {}
