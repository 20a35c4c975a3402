"""Photos and their table come from a folder or a .zip alike."""

import zipfile
from pathlib import Path

import pytest

from services.trainer.data.photos import read_photos, read_table
from services.trainer.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos/more").mkdir(parents=True)
    (tmp_path / "photos/b.jpg").write_bytes(b"b")
    (tmp_path / "photos/more/a.PNG").write_bytes(b"a")
    (tmp_path / "photos/labels.csv").write_text("file,gender\nb.jpg,Female\n")
    return tmp_path / "photos"


@pytest.fixture
def archive(folder: Path) -> Path:
    with zipfile.ZipFile(folder.parent / "photos.zip", "w") as zipped:
        for path in sorted(folder.rglob("*.*")):
            zipped.write(path, path.relative_to(folder))
    return folder.parent / "photos.zip"


def test_a_folder_and_its_archive_hold_the_same(folder: Path, archive: Path) -> None:
    assert list(read_photos(folder)) == list(read_photos(archive)) == [("b.jpg", b"b"), ("more/a.PNG", b"a")]
    table = {"b.jpg": {"gender": "Female"}}
    assert read_table(folder, "labels.csv") == read_table(archive, "labels.csv") == table
    assert read_table(archive, str(folder / "labels.csv")) == table


def test_what_cannot_be_read_is_named(folder: Path, archive: Path) -> None:
    with pytest.raises(DataError, match="no folder or archive"):
        list(read_photos(folder / "none.zip"))
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(DataError, match="damaged"):
        list(read_photos(archive))
    with pytest.raises(DataError, match=r"labels\.csv cannot be read"):
        read_table(archive, "labels.csv")
    with pytest.raises(DataError, match=r"no other\.csv"):
        read_table(folder, "other.csv")
    (folder / "bad.csv").write_text("name,gender\n")
    with pytest.raises(DataError, match="no column 'file'; its columns are name, gender"):
        read_table(folder, "bad.csv")
