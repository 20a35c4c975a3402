"""Folders, patterns, lists and URLs become the same sources."""

import csv
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.batch.errors import InputError, OutputError, PayloadTooLarge, UnreadableFile
from services.batch.sources import Source, list_sources
from services.batch.storage import Output, read_photo


def named(*inputs: object, column: str | None = None) -> list[tuple[str, str]]:
    return [(Path(s.url).name, s.kind) for s in list_sources([str(i) for i in inputs], column)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub/film.mp4", "sub/set.tar.gz", "faces.parquet"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    (tmp_path / "in" / "gone.jpg").symlink_to("nowhere")
    return tmp_path / "in"


def test_a_folder_gives_what_we_read_in_a_fixed_order(folder: Path) -> None:
    found = [
        ("a.png", "photo"),
        ("b.JPG", "photo"),
        ("gone.jpg", "photo"),
        ("film.mp4", "film"),
        ("set.tar.gz", "archive"),
    ]
    assert named(folder) == found
    assert next(list_sources([str(folder)])) == Source(str(folder / "a.png"), "photo", 5)


def test_a_pattern_reaches_into_folders(folder: Path) -> None:
    assert named(f"{folder}/**/*.mp4") == [("film.mp4", "film")]
    assert named(f"{folder}/*.png") == [("a.png", "photo")]


def test_lists_name_paths_beside_them_and_urls(folder: Path, tmp_path: Path) -> None:
    names = ["in/a.png", str(folder / "b.JPG"), "s3://bucket/c.jpg", "in/no_ending"]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "path"], *([n, name] for n, name in enumerate(names))])
    pq.write_table(pa.table({"mine": names}), tmp_path / "list.parquet")
    (tmp_path / "list.txt").write_text("\n".join(names))
    urls = [str(folder / "a.png"), str(folder / "b.JPG"), "s3://bucket/c.jpg", str(folder / "no_ending")]
    for found in (
        list_sources([str(tmp_path / "list.csv")]),
        list_sources([str(tmp_path / "list.parquet")], "mine"),
        list_sources([str(tmp_path / "list.txt")]),
    ):
        assert [source.url for source in found] == urls


def test_an_object_store_is_listed_as_a_folder_is() -> None:
    store = fsspec.filesystem("memory")
    for name in ("/bucket/a.jpg", "/bucket/sub/b.mp4", "/bucket/sub/c.txt"):
        store.pipe_file(name, b"12345")
    assert list(list_sources(["memory://bucket"])) == [
        Source("memory:///bucket/a.jpg", "photo", 5),
        Source("memory:///bucket/sub/b.mp4", "film", 5),
    ]
    assert [s.url for s in list_sources(["memory://bucket/*.jpg"])] == ["memory:///bucket/a.jpg"]
    assert read_photo("memory:///bucket/a.jpg") == b"12345"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", "There is no file or folder none"),
        ("s4://bucket/x", "fsspec has no file system 's4'"),
        ("gs://bucket/x", "gs:// needs the package gcsfs: pip install gcsfs"),
        ("memory://nothing/here", "There is nothing at memory://nothing/here"),
    ],
)
def test_an_input_that_cannot_be_is_told_with_what_to_do(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        named(name)


def test_lists_without_the_column_say_which_they_have(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("id,bild\n1,a.jpg\n")
    with pytest.raises(InputError, match=r"it has id, bild\. Name the paths' with --column"):
        named(tmp_path / "list.csv")
    assert named(tmp_path / "list.csv", column="bild") == [("a.jpg", "photo")]
    (tmp_path / "list.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be listed"):
        named(tmp_path / "list.parquet")


def test_a_photo_that_is_missing_or_endless_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        read_photo(str(tmp_path / "none.jpg"))
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(100_000_001)  # a hole: takes no room
    with pytest.raises(PayloadTooLarge):
        read_photo(str(tmp_path / "huge.jpg"))


def test_an_output_in_an_object_store_is_there_whole_or_not_at_all() -> None:
    output = Output.at("memory://results/job")
    with output.written("faces/a.parquet") as path:
        path.write_bytes(b"whole")
    with pytest.raises(FileNotFoundError), output.written("faces/b.parquet") as path:
        path.with_name("not there").read_bytes()
    assert output.names("faces") == ["a.parquet"]
    output.write_json("job.json", {"format": 1})
    assert output.read_json("job.json") == {"format": 1}
    with pytest.raises(OutputError, match="pip install gcsfs"):
        Output.at("gs://bucket/out")
