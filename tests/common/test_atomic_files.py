"""Atomic writes and locks, also with what Windows has in place of fcntl and of folders that can be opened."""

import fcntl
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fastgru.common import files as own_files
from fastgru.common.errors import InputError


def refuse_folders(path: str | Path, flags: int, mode: int = 0o777) -> int:
    if Path(path).is_dir():
        raise PermissionError(13, "Permission denied", str(path))
    return os.open(path, flags, mode)


def fsync_of_a_writer(handle: int) -> None:
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(9, "Bad file descriptor")
    os.fsync(handle)


def locking(handle: int, mode: int, count: int) -> None:
    assert (mode, count) == (2, 1)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PermissionError(13, "Permission denied") from error


def windows_files(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is imported on Windows, without the names that are not there."""
    spec = importlib.util.find_spec("fastgru.common.files")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    spec.loader.exec_module(module)
    names = {name: getattr(os, name) for name in ("O_CREAT", "O_RDONLY", "O_RDWR", "access", "close", "replace")}
    module.os = SimpleNamespace(**names, open=refuse_folders, fsync=fsync_of_a_writer)
    return module


@pytest.fixture(params=["here", "windows"])
def files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return own_files if request.param == "here" else windows_files(monkeypatch)


def test_atomic_write_leaves_the_new_file_alone(files: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with files.atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_atomic_write_that_fails_leaves_the_old_file(files: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with files.atomic_write(path) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_lock_is_refused_while_it_is_held_and_free_afterwards(files: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with files.locked(folder, "taken"):
        with pytest.raises(InputError, match="taken"), files.locked(folder, "taken"):
            pass
        assert folder.is_dir()
    with files.locked(folder, "taken"):
        (folder / "file").touch()
    assert [*tmp_path.rglob("*")] == [folder, folder / "file"]


def test_lock_removes_a_folder_that_it_made_and_nobody_filled(files: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("old", "new"):
        with files.locked(tmp_path / name, "taken"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_locked_folder_can_be_renamed(files: ModuleType, tmp_path: Path) -> None:
    with files.locked(tmp_path / "partial", "taken"):
        (tmp_path / "partial" / "file").touch()
        (tmp_path / "partial").rename(tmp_path / "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
