"""What a release must agree on: one version, its place in the changelog, and what the package says of itself."""

import re
from pathlib import Path

import pytest
from release_check import problems

import fastgru

tomllib = pytest.importorskip("tomllib", reason="of Python 3.11 and later")
ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = re.compile(r"(?:`|^ *|run: |&& *)make ([a-z][a-z0-9-]*)", re.MULTILINE)
LINKS = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def test_the_version_has_one_source() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    source = ROOT / PROJECT["tool"]["scikit-build"]["metadata"]["version"]["input"]
    assert f'__version__ = "{fastgru.__version__}"' in source.read_text()


def test_the_changelog_and_the_citation_know_the_version() -> None:
    assert re.search(rf"^## {re.escape(fastgru.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert f"\nversion: {fastgru.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_classifiers_name_the_pythons_that_are_built() -> None:
    built = {
        f"3.{number}" for name in PROJECT["tool"]["cibuildwheel"]["build"] for number in re.findall(r"cp3(\d+)-", name)
    }
    named = {
        words[-1] for line in PROJECT["project"]["classifiers"] if (words := line.split(" :: "))[-1].startswith("3.")
    }
    assert named == built
    oldest = min(built, key=lambda name: int(name.split(".")[1]))
    assert PROJECT["project"]["requires-python"] == f">={oldest}"


def test_extras_that_others_include_exist() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    included = {name for lines in extras.values() for line in lines for name in _extras_of(line)}
    assert included <= set(extras)


def _extras_of(requirement: str) -> list[str]:
    found = re.match(r"fastgru\[([^\]]*)\]", requirement)
    return found[1].split(",") if found else []


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")))
def test_links_between_pages_lead_somewhere(page: str) -> None:
    path = ROOT / page
    missing = [link for link in LINKS.findall(path.read_text()) if not (path.parent / link).exists()]
    assert missing == []


def test_release_check_says_all_that_is_missing() -> None:
    assert problems("1.0", "## Unreleased\n\n## 1.0 2026\n", "x\nversion: 1.0\n", "v0.9\n", "", "") == []
    tags = "v0.9\nv1.0\nv1.1\nstable\n"
    found = problems("1.0", "## Unreleased\n\n- more\n\n## 0.9\n", "version: 0.9", tags, "v1.1\nstable\n", " M file\n")
    assert [line.split(":")[0] for line in found] == [
        "CHANGELOG.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "the tag v1.0 is on another commit",
        "the tag v1.1 is on this commit, whose version is 1.0",
        "changes that are not committed",
    ]


def test_release_check_passes_on_the_tagged_commit() -> None:
    assert problems("1.0", "## Unreleased\n\n## 1.0 2026\n", "x\nversion: 1.0\n", "v0.9\nv1.0\n", "v1.0\n", "") == []


def test_make_has_every_target_that_is_spoken_of() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    phony = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    assert set(" ".join(phony).replace("\\", "").split()) == targets
    assert len(phony) == 1
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.yml"), ROOT / ".ci/run"]
    spoken = {name for page in pages for name in COMMANDS.findall(page.read_text())}
    assert spoken
    assert spoken <= targets
