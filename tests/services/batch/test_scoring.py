"""A shard the whole way: rows for every picture, an error row for every fault, and never a stop."""

import errno
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from services.api.errors import answer_to
from services.batch.errors import OutputError, code_of
from services.batch.job import Job
from services.batch.plan import extend_plan, finished, shards
from services.batch.scoring import Scorer
from services.batch.sources import list_sources
from services.batch.storage import Output
from services.batch.table import COLUMNS, SCHEMA
from shared.emotions import EMOTIONS
from shared.errors import ImageError
from tests.conftest import ROOT
from tests.services.batch.conftest import Bench, rows_of, square, tar_of, write_film, write_photo


def test_a_folder_becomes_rows_a_face_and_an_empty_photo_keeps_its_row(bench: Bench, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.png")
    write_photo(tmp_path / "in/b.png", square(level=0))
    face, empty = bench.score(tmp_path / "in", tmp_path / "out")
    assert (face["source"], face["width"], face["height"]) == (str(tmp_path / "in/a.png"), 96, 64)
    assert (face["box_x"], face["box_y"], face["box_width"], face["box_height"]) == (20, 10, 30, 30)
    assert (face["faces"], face["face"], face["face_id"], face["frame"]) == (1, 0, None, None)
    assert sum(face[name] for name in EMOTIONS) == pytest.approx(1, abs=1e-5)
    assert face["emotion"] == max(EMOTIONS, key=lambda name: face[name])
    assert (face["model"], face["detector"], face["smoothed_happy"]) == ("default", "haar", None)
    assert (empty["faces"], empty["emotion"], empty["error"]) == (0, None, None)


def test_broken_files_are_rows_with_the_api_s_codes(bench: Bench, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/good.png")
    whole = (tmp_path / "in/good.png").read_bytes()
    for name, data in {"cut.png": whole[:100], "empty.jpg": b"", "text.jpg": b"hello", "no.mp4": b"no film"}.items():
        (tmp_path / "in" / name).write_bytes(data)
    write_photo(tmp_path / "in/tiny.png", square(size=(8, 8)))
    (tmp_path / "in/gone.jpg").symlink_to("nowhere")
    rows = {Path(row["source"]).name: row["error"] for row in bench.score(tmp_path / "in", tmp_path / "out")}
    assert rows == {
        "good.png": None, "cut.png": "undecodable_image", "empty.jpg": "undecodable_image", "gone.jpg": "unreadable_file",
        "no.mp4": "undecodable_video", "text.jpg": "unsupported_image", "tiny.png": "image_too_small",
    }  # fmt: skip


@pytest.mark.parametrize("error", ImageError.__subclasses__(), ids=lambda error: error.__name__)
def test_codes_of_images_are_the_api_s(error: type[ImageError]) -> None:
    assert code_of(error("x")) == answer_to(error("x")).code


def test_a_film_is_a_row_a_frame_with_one_identity_and_smoothed_probabilities(bench: Bench, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", [n / 25 for n in range(30)])
    rows = bench.score(film, tmp_path / "out")
    assert [row["frame"] for row in rows] == list(range(30))
    assert [row["time_s"] for row in rows] == pytest.approx([n / 25 for n in range(30)], abs=0.002)
    assert {row["face_id"] for row in rows} == {1}
    for row in rows:
        smoothed = {name: row[f"smoothed_{name}"] for name in EMOTIONS}
        assert sum(smoothed.values()) == pytest.approx(1, abs=1e-5)
        assert row["emotion"] == max(smoothed, key=smoothed.__getitem__)
    assert np.ptp([row["smoothed_happy"] for row in rows]) <= np.ptp([row["happy"] for row in rows])


def test_a_blank_second_frame_and_a_film_without_faces_lose_nothing(bench: Bench, tmp_path: Path) -> None:
    times = [n / 25 for n in range(10)]
    (tmp_path / "in").mkdir()
    write_film(tmp_path / "in/a.mp4", times, lambda n: square(level=0 if n == 1 else 250))
    write_film(tmp_path / "in/b.mp4", times, lambda _: square(level=0))
    rows = bench.score(tmp_path / "in", tmp_path / "out")
    first, second = rows[:10], rows[10:]
    assert [row["faces"] for row in first] == [1, 0, *[1] * 8]
    assert {row["face_id"] for row in first if row["faces"]} == {1}
    assert [row["faces"] for row in second] == [0] * 10


def test_identities_last_when_frames_are_taken_rarely(bench: Bench, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", [n / 5 for n in range(100)], lambda n: square(20 + n // 10 % 3))
    rows = bench.score(film, tmp_path / "out", every_s=2.0)
    assert len(rows) == 10
    assert {row["face_id"] for row in rows} == {1}


def test_a_film_that_ends_early_keeps_its_rows_and_adds_an_error(bench: Bench, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    film = write_film(tmp_path / "a.mkv", [n / 25 for n in range(100)], lambda n: np.roll(noise, 7 * n, axis=1))
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    rows = bench.score(film, tmp_path / "out", every_s=0.2)
    counts = Counter(row["error"] for row in rows)
    assert counts["video_cut_short"] == 1
    assert counts[None] >= 5


@pytest.fixture
def photo(tmp_path: Path) -> bytes:
    return write_photo(tmp_path / "photo.png").read_bytes()


def test_a_tar_file_gives_its_photos_and_films(bench: Bench, tmp_path: Path, photo: bytes) -> None:
    film = write_film(tmp_path / "film.mp4", [0, 0.04]).read_bytes()
    path = tar_of(tmp_path / "set.tar", {"a/1.png": photo, "1.json": b"{}", "2.png": b"broken", "3.mp4": film})
    rows = bench.score(path, tmp_path / "out")
    assert [(row["member"], row["frame"], row["error"]) for row in rows] == [
        ("2.png", None, "unsupported_image"), ("3.mp4", 0, None), ("3.mp4", 1, None), ("a/1.png", None, None),
    ]  # fmt: skip
    assert {row["source"] for row in rows} == {str(path)}


def test_an_unreadable_tar_file_keeps_what_could_be_read_and_is_tried_again(
    bench: Bench, tmp_path: Path, photo: bytes
) -> None:
    path = tar_of(tmp_path / "set.tar", {"1.png": photo, "2.png": photo * 40})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    rows = bench.score(path, tmp_path / "out")
    assert [(row["member"], row["error"]) for row in rows] == [(None, "unreadable_archive"), ("1.png", None)]
    output = Output.at(str(tmp_path / "out"))
    assert finished(output) == set()
    path.write_bytes(whole)
    rows = bench.score(path, tmp_path / "out")
    assert [(row["member"], row["error"]) for row in rows] == [("1.png", None), ("2.png", None)]
    assert output.names("shards") == ["000-000000.json"]


def test_a_shard_that_is_scored_twice_is_there_once(bench: Bench, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.png")
    once = bench.score(tmp_path / "in", tmp_path / "out")
    assert bench.score(tmp_path / "in", tmp_path / "out") == once


@dataclass(frozen=True, slots=True)
class FullDisk(Output):
    """An output whose disk is full after the plan was written."""

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        if name.startswith("faces/"):
            raise OSError(errno.ENOSPC, "No space left on device")
        with Output.written(self, name) as path:
            yield path


def test_a_full_disk_ends_the_job_in_one_line_and_leaves_the_shard_to_do(bench: Bench, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.png")
    output = FullDisk(*(getattr(Output.at(str(tmp_path / "out")), name) for name in ("url", "fs", "path")))
    extend_plan(output, list_sources([str(tmp_path / "in")]))
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        Scorer(Job(), output, bench.analyzer).score(shards(output)[0])
    assert finished(output) == set()
    assert rows_of(tmp_path / "out") == []


def test_the_table_has_the_documented_columns(bench: Bench, tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.png")
    bench.score(tmp_path / "in", tmp_path / "out")
    (part,) = (tmp_path / "out/faces").glob("*.parquet")
    assert pq.read_schema(part).equals(SCHEMA)
    documented = (ROOT / "docs/archives.md").read_text()
    for column in COLUMNS:
        line = f"| `{column.name}` | {column.type} | {column.range} | {column.meaning} |"
        assert line in documented, line


def test_memory_does_not_grow_with_the_film(bench: Bench, tmp_path: Path) -> None:
    held = []
    for count in (200, 2000):
        film = write_film(
            tmp_path / f"{count}.mp4",
            [n / 25 for n in range(count)],
            lambda n: square(20 + n % 9, size=(64, 48), side=20),
        )
        bench.score(film, tmp_path / f"out{count}")
        (manifest,) = (tmp_path / f"out{count}/shards").glob("*.json")
        held.append(json.loads(manifest.read_text())["peak_memory_mb"])
    assert held[1] - held[0] < 40


def test_a_photo_in_a_tar_file_that_is_too_large_is_a_row_as_it_is_in_a_folder(bench: Bench, tmp_path: Path) -> None:
    large = tarfile.TarInfo("large.png")
    large.size = 100_000_001
    with (tmp_path / "set.tar").open("wb") as file:
        file.write(large.tobuf())
        file.truncate(512 + large.size // 512 * 512 + 512 + 1024)  # a hole: takes no room
    (row,) = bench.score(tmp_path / "set.tar", tmp_path / "out")
    assert (row["member"], row["error"]) == ("large.png", "payload_too_large")
