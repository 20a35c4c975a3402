"""What can be wrong with a source of faces is found, told, and kept out of training."""

import csv
import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.trainer.commands.arguments import GEOMETRY
from services.trainer.data.dataset import VOTE_COLUMNS, Dataset
from services.trainer.data.geometry import read_geometry
from services.trainer.data.prepare import left_out_by_problem, prepare
from services.trainer.data.sources import CSV_EMOTIONS, FaceFinder, hold_out_validation, read_source
from services.trainer.errors import DataError
from shared.emotions import EMOTIONS
from shared.pipeline.detect import HaarDetector
from tests.drawn import draw_face, write_csv


def read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def write_rows(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    for split, count in (("train", 10), ("test", 2)):
        for emotion in EMOTIONS:
            folder = tmp_path / "faces" / split / emotion
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw_face(emotion, rng)).save(folder / f"{number}.png")
    return tmp_path / "faces"


def test_labels_are_mapped_by_name_not_by_number(drawn_csv: Path, drawn: Dataset) -> None:
    first = read_rows(drawn_csv)[1 : 1 + len(CSV_EMOTIONS)]
    assert [CSV_EMOTIONS[int(row[0])] for row in first] == [EMOTIONS[label] for label in drawn.labels[:7]]
    assert (drawn.pixels[4].ravel() == np.array(first[4][1].split(), int)).all()


def test_data_has_a_name_that_is_no_part_of_its_content(drawn: Dataset, folders: Path, tmp_path: Path) -> None:
    named = {}
    for name in (None, "Team"):
        prepare(folders, None, tmp_path / "data.npz", name=name)
        named[name] = Dataset.load(tmp_path / "data.npz")
    assert [data.name for data in named.values()] == ["faces", "Team"]
    assert named[None].sha256 == named["Team"].sha256
    assert drawn.name == "FER2013"
    same = folders.rename(folders.parent / "fer2013")
    assert prepare(same, None, tmp_path / "data.npz")["name"] == "FER2013"


def test_the_report_counts_every_class_of_every_split(drawn_csv: Path, tmp_path: Path) -> None:
    report = prepare(drawn_csv, None, tmp_path / "data.npz")
    assert report["images"]["train"] == dict.fromkeys(EMOTIONS, 8)
    assert report["images"]["test"] == dict.fromkeys(EMOTIONS, 3)
    assert report["left_out"] == []
    assert json.loads((tmp_path / "data.report.json").read_text()) == report
    with Image.open(tmp_path / "data.classes.png") as plot:
        assert plot.width > 500


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".xz", lzma.open)])
def test_compressed_csv_is_read_as_it_is(
    suffix: str, opener: Callable[..., object], drawn_csv: Path, drawn: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / f"faces.csv{suffix}"
    with opener(path, "wb") as file:  # type: ignore[attr-defined]
        file.write(drawn_csv.read_bytes())
    assert prepare(path, None, tmp_path / "data.npz")["sha256"] == drawn.sha256


def test_rows_that_cannot_be_read_are_listed_and_the_rest_is_kept(drawn_csv: Path, tmp_path: Path) -> None:
    rows = read_rows(drawn_csv)
    rows[1][1] = "1 2 3"
    rows[2][0] = "9"
    rows[3][1] = rows[3][1].replace(" ", " x", 1)
    rows[4][2] = "Sometimes"
    rows[5][1] = "300" + rows[5][1][rows[5][1].index(" ") :]
    rows[6] = ["3"]
    report = prepare(write_rows(tmp_path / "broken.csv", rows), None, tmp_path / "data.npz")
    assert report["kept"] == report["read"] - 6
    problems = {entry["source"]: entry["problem"] for entry in report["left_out"]}
    assert problems["row 0"] == "corrupt: 3 pixels instead of 2304"
    assert problems["row 1"] == "corrupt: no emotion 0 to 6 in '9'"
    assert "whole numbers" in problems["row 2"]
    assert "Sometimes" in problems["row 3"]
    assert "outside 0 to 255" in problems["row 4"]
    assert problems["row 5"].startswith("corrupt")


def test_repeats_and_blank_images_leave_training_only(drawn_csv: Path, tmp_path: Path) -> None:
    rows = read_rows(drawn_csv)
    of = {usage: [row for row in rows[1:] if row[2] == usage] for usage in ("Training", "PublicTest", "PrivateTest")}
    # Ends in black pixels: an image's bytes must be compared to the last.
    dark_end = of["Training"][0][1].rsplit(" ", 3)[0] + " 0 0 0"
    of["Training"][0][1] = of["PublicTest"][2][1] = dark_end
    of["Training"][1][1] = of["PrivateTest"][4][1]
    of["Training"][2][1] = " ".join(["7"] * 2304)
    of["PrivateTest"][5][1] = " ".join(["9"] * 2304)
    report = prepare(write_rows(tmp_path / "repeats.csv", rows), None, tmp_path / "data.npz")
    assert report["left_out_by_reason"] == {"repeat": 2, "empty": 1}
    assert report["repeated_in_train"] == {"validation": 1, "test": 1}
    data = Dataset.load(tmp_path / "data.npz")
    assert data.split("test").repeated.nonzero()[0].tolist() == [4]
    assert len(data.split("test")) == 21


def test_folders_give_the_same_faces_as_they_hold(folders: Path, tmp_path: Path) -> None:
    report = prepare(folders, None, tmp_path / "data.npz")
    assert sum(report["images"]["test"].values()) == 14
    data = Dataset.load(tmp_path / "data.npz").split("test")
    with Image.open(folders / "test/happy/1.png") as image:
        stored = np.asarray(image)
    assert (data.pixels[EMOTIONS.index("happy") * 2 + 1] == stored).all()
    assert EMOTIONS[data.labels[EMOTIONS.index("happy") * 2 + 1]] == "happy"


def test_without_a_validation_folder_a_tenth_of_each_class_is_held_out(folders: Path, tmp_path: Path) -> None:
    report = prepare(folders, None, tmp_path / "data.npz")
    assert report["images"]["validation"] == dict.fromkeys(EMOTIONS, 1)
    assert report["images"]["train"] == dict.fromkeys(EMOTIONS, 9)
    again = prepare(folders, None, tmp_path / "again.npz")
    assert again["sha256"] == report["sha256"]


def test_file_names_of_fer2013_decide_the_split(folders: Path) -> None:
    for number, split in enumerate(("Training", "PublicTest", "PrivateTest")):
        (folders / f"test/happy/{split}_12{number}.png").write_bytes((folders / "test/happy/0.png").read_bytes())
    frame, _ = read_source(folders)
    named = frame[frame["source"].str.contains("_12")]
    assert dict(zip(named["source"].str.split("[/_]").str[2], named["split"], strict=True)) == {
        "Training": "train",
        "PublicTest": "validation",
        "PrivateTest": "test",
    }
    assert (hold_out_validation(frame)["split"] == frame["split"]).all()


def test_files_that_are_no_images_are_listed(folders: Path, tmp_path: Path) -> None:
    (folders / "train/sad/notes.png").write_text("not a face")
    whole = (folders / "train/sad/0.png").read_bytes()
    (folders / "train/sad/half.png").write_bytes(whole[: len(whole) // 2])
    (folders / "train/sad/gone.png").symlink_to("nowhere.png")
    report = prepare(folders, None, tmp_path / "data.npz")
    problems = {entry["source"]: entry["problem"] for entry in report["left_out"]}
    assert problems["train/sad/notes.png"].startswith("corrupt: This is not a supported image")
    assert problems["train/sad/half.png"].startswith("corrupt: The PNG image is truncated")
    assert problems["train/sad/gone.png"] == "missing: a broken link"


def test_hidden_files_and_texts_are_ignored_and_counted_apart(folders: Path, tmp_path: Path) -> None:
    before = prepare(folders, None, tmp_path / "before.npz")
    angry = folders / "train/angry"
    (angry / ".DS_Store").write_bytes(b"\0")
    (angry / "._photo.jpg").write_bytes(b"\0")
    (angry / "notes.txt").write_text("who is who")
    (folders / "train/.cache").mkdir()
    report = prepare(folders, None, tmp_path / "data.npz")
    assert (report["read"], report["kept"]) == (before["read"], before["kept"])
    assert report["left_out_by_reason"] == {"ignored": 3}
    assert left_out_by_problem(report) == {
        "hidden files": ["train/angry/.DS_Store", "train/angry/._photo.jpg"],
        "texts": ["train/angry/notes.txt"],
    }


def test_a_training_photo_that_is_in_the_test_too_is_named_as_that(folders: Path, tmp_path: Path) -> None:
    photo = next((folders / "test/sad").iterdir())
    (folders / "train/sad" / photo.name).write_bytes(photo.read_bytes())
    named = left_out_by_problem(prepare(folders, None, tmp_path / "data.npz"))
    assert named == {"the same picture is in validation or test": [f"train/sad/{photo.name}"]}


def test_large_colour_photos_become_grey_faces(folders: Path, tmp_path: Path) -> None:
    face = Image.open(folders / "train/happy/0.png").resize((480, 480)).convert("RGB")
    face.save(folders / "test/happy/0.png")
    prepare(folders, None, tmp_path / "data.npz")
    faces = Dataset.load(tmp_path / "data.npz").split("test").pixels
    small = np.asarray(Image.open(folders / "train/happy/0.png")).astype(int)
    assert np.abs(faces[EMOTIONS.index("happy") * 2].astype(int) - small).mean() < 6


def test_a_folder_of_another_class_is_an_error_that_names_the_seven(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "train/happy", folders / "train/bored")
    with pytest.raises(DataError, match=r"bored is not one of the classes angry, disgust.*surprise"):
        prepare(folders, None, tmp_path / "data.npz")


def test_a_class_without_an_image_is_an_error(folders: Path, tmp_path: Path) -> None:
    shutil.rmtree(folders / "train/fear")
    with pytest.raises(DataError, match="train image shows fear"):
        prepare(folders, None, tmp_path / "data.npz")
    assert not (tmp_path / "data.npz").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file"),
        (b"a,b,c\n1,2,3\n", "has no columns Usage, emotion, pixels"),
        (b"", "has no columns"),
        (b"\xff\xfe\x00binary", "cannot be read"),
        (b"emotion,pixels,Usage\n", "No readable train image"),
    ],
)
def test_a_file_that_is_no_such_csv_is_an_error(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(tmp_path / "x.csv", None, tmp_path / "data.npz")


def test_a_damaged_archive_is_an_error(drawn_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "faces.csv.xz").write_bytes(lzma.compress(drawn_csv.read_bytes())[:5000])
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path / "faces.csv.xz", None, tmp_path / "data.npz")


def test_a_folder_without_train_and_test_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train/ and test/"):
        prepare(tmp_path, None, tmp_path / "data.npz")


def test_votes_are_taken_in_row_order(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "faces.csv", {"Training": 1, "PublicTest": 1, "PrivateTest": 1})
    votes = np.arange(21 * 10).reshape(21, 10) % 11
    names = [f"fer{20 - row:07d}.png" for row in range(21)]  # these numbers are not rows
    header = ["Usage", "Image name", *VOTE_COLUMNS]
    usages = ["Training"] * 7 + ["PublicTest"] * 7 + ["PrivateTest"] * 7
    rows = [[usage, name, *map(str, row)] for usage, name, row in zip(usages, names, votes, strict=True)]
    prepare(source, write_rows(tmp_path / "votes.csv", [header, *rows]), tmp_path / "data.npz")
    assert (Dataset.load(tmp_path / "data.npz").votes == votes).all()
    with pytest.raises(DataError, match="20 rows, the source has 21"):
        prepare(source, write_rows(tmp_path / "votes.csv", [header, *rows[:-1]]), tmp_path / "data.npz")
    with pytest.raises(DataError, match="a different Usage from the source in 21 rows"):
        prepare(source, write_rows(tmp_path / "votes.csv", [header, *rows[7:], *rows[:7]]), tmp_path / "data.npz")


def test_looking_for_faces_in_a_csv_is_refused(drawn_csv: Path, tmp_path: Path) -> None:
    finder = FaceFinder(HaarDetector(1024), read_geometry(GEOMETRY)["haar"])
    with pytest.raises(DataError, match="--detect is for folders"):
        prepare(drawn_csv, None, tmp_path / "data.npz", finder=finder)


def test_votes_for_folders_are_refused(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "votes.csv").touch()
    with pytest.raises(DataError, match="Leave --votes out"):
        prepare(folders, tmp_path / "votes.csv", tmp_path / "data.npz")
