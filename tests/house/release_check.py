"""Whether this checkout can be tagged and published: a line for each thing that is not as it must be.

`make release-check` runs it before the tag is set, and .github/workflows/wheels.yml once more on the tag.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def problems(version: str, changelog: str, citation: str, tags: str, tags_here: str, changed: str) -> list[str]:
    """What stands in the way of a release of this version, in words. `tags_here`: those of `tags` on this commit."""
    found = []
    sections = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    unreleased = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if unreleased and unreleased[1].strip():
        found.append("CHANGELOG.md: what is under Unreleased has no version yet")
    if not any(section.split()[0] == version for section in sections):
        found.append(f"CHANGELOG.md: no section of {version}")
    if f"\nversion: {version}\n" not in citation:
        found.append(f"CITATION.cff: another version than {version}")
    here = set(tags_here.split())
    if f"v{version}" in set(tags.split()) - here:
        found.append(f"the tag v{version} is on another commit: raise __version__ in src/fastgru/__init__.py")
    for tag in sorted(here - {f"v{version}"}):
        if re.match(r"v\d", tag):
            found.append(f"the tag {tag} is on this commit, whose version is {version}")
    if changed.strip():
        found.append("changes that are not committed")
    return found


def main() -> int:
    """Print the problems; 1 where there are any."""
    source = (ROOT / "src/fastgru/__init__.py").read_text()
    version = re.findall(r'^__version__ = "([^"]+)"', source, re.MULTILINE)[0]
    git = [
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for words in (("tag",), ("tag", "--points-at", "HEAD"), ("status", "--porcelain"))
    ]
    found = problems(version, (ROOT / "CHANGELOG.md").read_text(), (ROOT / "CITATION.cff").read_text(), *git)
    print("\n".join(found) if found else f"{version} is ready as v{version}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
