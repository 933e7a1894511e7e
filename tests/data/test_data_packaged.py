import dataclasses
import hashlib
import io
import logging
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fastgru.common.errors import InputError
from fastgru.data.packaged import Member, Packaged, cache_folder

FIRST, SECOND = "first\r\ncaf\u00e9\n".encode(), b"second\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tar_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class FakePip:
    """Stands in for subprocess.run: leaves `content` under `archive` in the folder that --dest names."""

    def __init__(self, archive: str, content: bytes) -> None:
        self.archive, self.content = archive, content
        self.calls: list[list[str]] = []
        self.error: str | None = None
        self.leave: Callable[[Path], object] = lambda folder: (folder / self.archive).write_bytes(self.content)

    def __call__(self, command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        self.calls.append(command)
        if self.error is not None:
            return subprocess.CompletedProcess(command, 1, "", self.error)
        self.leave(Path(command[command.index("--dest") + 1]))
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTGRU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["thing-1.0.tar.gz", "thing-1.0-py3-none-any.whl"])
def archive(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def pip(cache: Path, archive: str, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    pack = zip_of if archive.endswith(".whl") else tar_of
    fake = FakePip(archive, pack(inner=tar_of(first=FIRST), second=SECOND))
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


@pytest.fixture
def things(pip: FakePip) -> Packaged:
    members = (Member(("inner", "first"), sha256(FIRST)), Member(("second",), sha256(SECOND)))
    return Packaged("the things", "thing==1.0", pip.archive, sha256(pip.content), 0.1, members)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_fetch_gives_the_members_in_order(things: Packaged, cache: Path) -> None:
    paths = things.fetch()
    assert paths == [cache / "first", cache / "second"]
    assert [path.read_bytes() for path in paths] == [FIRST, SECOND]


def test_fetch_asks_pip_for_that_distribution_alone(things: Packaged, pip: FakePip) -> None:
    things.fetch()
    (command,) = pip.calls
    assert ("--only-binary" if pip.archive.endswith(".whl") else "--no-binary") in command
    assert {"--no-deps", "--require-hashes"} <= set(command)


def test_fetch_says_what_it_does_and_fetches_once(
    things: Packaged, pip: FakePip, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fastgru"):
        assert things.fetch() == things.fetch()
    assert len(pip.calls) == 1
    assert [record.getMessage().startswith("fetching the things") for record in caplog.records] == [True]


def test_fetch_offline_with_full_cache_needs_no_pip(things: Packaged, pip: FakePip) -> None:
    things.fetch()
    pip.error = "no network"
    assert len(things.fetch()) == 2


def test_fetch_damaged_cache_is_fetched_again(things: Packaged, pip: FakePip) -> None:
    first, second = things.fetch()
    second.write_bytes(SECOND[:3])
    first.unlink()
    assert [path.read_bytes() for path in things.fetch()] == [FIRST, SECOND]
    assert len(pip.calls) == 2


def test_fetch_wrong_hash_is_refused_and_leaves_nothing(things: Packaged, pip: FakePip, cache: Path) -> None:
    pip.content = pip.content[:-1] + b"!"
    with pytest.raises(InputError, match=r"thing-1\.0.* is not the file that was expected"):
        things.fetch()
    assert names_in(cache) == []


def test_fetch_wrong_member_hash_is_refused(things: Packaged, cache: Path) -> None:
    wrong = dataclasses.replace(things.members[1], sha256="0" * 64)
    with pytest.raises(InputError, match="second is not the file"):
        dataclasses.replace(things, members=(things.members[0], wrong)).fetch()
    assert names_in(cache) == []


@pytest.mark.parametrize(
    "broken",
    [b"no archive", b"PK no wheel", tar_of(elsewhere=b""), zip_of(elsewhere=b""), tar_of(inner=b"no archive")],
    ids=["text", "no wheel", "tar without it", "zip without it", "tar of text"],  # an archive's bytes hold the time
)
def test_fetch_broken_archive_is_a_clear_error(things: Packaged, pip: FakePip, cache: Path, broken: bytes) -> None:
    pip.content = broken
    with pytest.raises(InputError, match="cannot be unpacked"):
        dataclasses.replace(things, sha256=sha256(broken)).fetch()
    assert names_in(cache) == []


def test_fetch_pip_fails_repeats_its_last_line(things: Packaged, pip: FakePip, cache: Path) -> None:
    pip.error = "WARNING: retrying\nERROR: No matching distribution found"
    with pytest.raises(InputError, match="pip says: ERROR: No matching distribution found"):
        things.fetch()
    assert names_in(cache) == []


def test_fetch_pip_leaves_no_file(things: Packaged, pip: FakePip) -> None:
    pip.leave = lambda folder: None
    with pytest.raises(InputError, match=r"pip left no thing-1\.0"):
        things.fetch()


def test_fetch_with_pip_cut_off_from_its_index(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    things = Packaged("the things", "thing==1.0", "thing-1.0.tar.gz", "0" * 64, 0.1, (Member(("x",), "0" * 64),))
    with pytest.raises(InputError, match="could not be fetched: pip says: ERROR"):
        things.fetch()
    assert names_in(cache) == []


def test_cache_folder_without_override_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTGRU_CACHE", raising=False)
    assert cache_folder().name == "fastgru"
