"""Every public name's docstring ends with an example, and what the example shows is what happens."""

import doctest
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

# What users import from. Of a module without __all__ all that it defines itself is public.
MODULES = [
    "fastgru",
    "fastgru.convert",
    "fastgru.models",
    "fastgru.models.attribution",
    "fastgru.predict",
    "fastgru.runtime.models",
    "fastgru.sklearn",
    "fastgru.training",
]


def public(module: Any) -> list[str]:
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    names: list[str] = getattr(module, "__all__", own)
    return [name for name in names if not name.startswith("_") and callable(getattr(module, name))]


def public_names() -> dict[str, Any]:
    """By their full names; what two modules give, such as `accelerate`, is there once."""
    found: dict[str, Any] = {}
    for module in map(import_module, MODULES):
        for name in public(module):
            if getattr(module, name) not in found.values():
                found[f"{module.__name__}.{name}"] = getattr(module, name)
    return found


def ends_with_example(docstring: str) -> bool:
    return ">>>" in docstring.rstrip().split("\n\n")[-1]


def run(value: Any, name: str) -> list[str]:
    """The failures of all examples in its docstring and, of a class, in those of its methods."""
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for test in doctest.DocTestFinder().find(value, name, globs={}):
        runner.run(test, out=said.append)
    return said


NAMES = public_names()


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # g2p_en's own
@pytest.mark.parametrize("name", NAMES)
def test_docstring_ends_with_an_example_that_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    if "g2p_en" in name:
        request.getfixturevalue("g2p_en")  # whose import would fetch dictionaries
    assert ends_with_example(NAMES[name].__doc__ or ""), f"{name} has no example at the end of its docstring"
    assert run(NAMES[name], name) == []


def test_a_missing_example_and_a_wrong_one_are_found() -> None:
    assert not ends_with_example("What.\n\n>>> 1 + 1\n2\n\nAnd more.")
    assert ends_with_example("What.\n\n>>> 1 + 1\n2\n")

    def wrong() -> None:
        """What.

        >>> 1 + 1
        3
        """

    assert "Expected:\n    3\nGot:\n    2" in "".join(run(wrong, "wrong"))
