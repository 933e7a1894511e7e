"""Data files that lie inside packages on PyPI: fetched with pip, checked, kept in the cache folder."""

import hashlib
import io
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from fastgru.common.errors import InputError
from fastgru.common.files import atomic_write

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A file inside a package.

    `path`: its name in there; where an archive lies in the archive, that one's name first.
    `sha256`: of its content, in hex.
    """

    path: tuple[str, ...]
    sha256: str

    @property
    def name(self) -> str:
        """Its name in the cache folder."""
        return Path(self.path[-1]).name


@dataclass(frozen=True)
class Packaged:
    """Files in one distribution of a package.

    `what`: what the user calls them, such as "the movie reviews". `megabytes`: the size of the distribution.
    `requirement`: as pip writes it, `name==version`. `archive`: the distribution's file name, a wheel or a .tar.gz.
    `sha256`: of the distribution, in hex. `members`: the files that are wanted.
    """

    what: str
    requirement: str
    archive: str
    sha256: str
    megabytes: float
    members: tuple[Member, ...]

    def fetch(self) -> list[Path]:
        """Give the paths of the verified members in the cache folder; fetch them where one is not there.

        Cached files that are damaged are fetched again. InputError where fetching fails; the cache is then unchanged.
        Nothing of the package is run.
        """
        cached = [cache_folder() / member.name for member in self.members]
        if all(_holds(path, member.sha256) for path, member in zip(cached, self.members, strict=True)):
            return cached
        _log.info("fetching %s (%s, %s MB) with pip into %s", self.what, self.archive, self.megabytes, cache_folder())
        with tempfile.TemporaryDirectory() as folder:
            self._pip_download(Path(folder))
            contents = self._extract(Path(folder) / self.archive)
        cache_folder().mkdir(parents=True, exist_ok=True)
        for path, content in zip(cached, contents, strict=True):
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)
        return cached

    def _pip_download(self, folder: Path) -> None:
        # A requirements file with the hash makes pip check it before it runs anything of the package.
        wanted = folder / "requirements.txt"
        wanted.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
        kind = "--only-binary" if self.archive.endswith(".whl") else "--no-binary"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += [kind, self.requirement.split("==")[0], "--ignore-requires-python", "--require-hashes"]
        command += ["--dest", str(folder), "-r", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise InputError(f"{self.what} could not be fetched: pip says: {said[-1]}")

    def _extract(self, archive: Path) -> list[bytes]:
        # Members are read into memory by their exact name: nothing from the archive chooses a path here.
        if not archive.is_file():
            raise InputError(f"{self.what} could not be fetched: pip left no {archive.name}")
        content = archive.read_bytes()
        _check_hash(content, self.sha256, archive.name)
        return [self._read(content, member) for member in self.members]

    def _read(self, content: bytes, member: Member) -> bytes:
        try:
            for name in member.path:
                content = _read_member(content, name)
        except (tarfile.TarError, zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
            raise InputError(f"{self.archive} cannot be unpacked: {error}") from error
        _check_hash(content, member.sha256, member.name)
        return content


def cache_folder() -> Path:
    """Give the folder for fetched data: `$FASTGRU_CACHE`, otherwise the user's cache folder."""
    from platformdirs import user_cache_path

    override = os.environ.get("FASTGRU_CACHE")
    return Path(override) if override else user_cache_path("fastgru")


def _read_member(archive: bytes, name: str) -> bytes:
    if archive.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
            return wheel.read(name)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        member = tar.extractfile(name)
        if member is None:
            raise KeyError(f"{name} is not a file")
        return member.read()


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == sha256


def _check_hash(content: bytes, expected: str, name: str) -> None:
    found = _sha256(content)
    if found != expected:
        raise InputError(
            f"{name} is not the file that was expected (SHA-256 {found[:12]}..., expected {expected[:12]}...): "
            "the download is broken or was tampered with; nothing was kept, try again"
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
