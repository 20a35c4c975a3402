"""Files and folders appear complete or not at all."""

import contextlib
from pathlib import Path

from shared.atomic import atomic_directory, atomic_file, write_text


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with atomic_file(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
        assert temporary.suffix == ".txt"
    assert path.read_text() == "after"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with contextlib.suppress(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "new/deep/a.txt", "grüße")
    assert (tmp_path / "new/deep/a.txt").read_bytes() == "grüße".encode()


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_text(path / "old.txt", "old")
    with atomic_directory(path) as new:
        (new / "new.txt").write_text("new")
        assert names(path) == ["old.txt"]
    assert names(path) == ["new.txt"]
    assert names(tmp_path) == ["model"]


def test_an_error_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_text(path / "old.txt", "old")
    with contextlib.suppress(RuntimeError), atomic_directory(path) as new:
        (new / "new.txt").write_text("half")
        raise RuntimeError
    assert names(path) == ["old.txt"]
    assert names(tmp_path) == ["model"]
