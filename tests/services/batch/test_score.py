"""The command with real Ray: resumed, killed, refused, and told in one line what is wrong."""

import csv
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.batch.__main__ import main
from services.trainer.data.sources import read_csv
from tests.conftest import ROOT, SHIPPED_MODEL
from tests.services.batch.conftest import WITH, rows_of, write_film, write_photo

# Ray does not wait for the processes that it ends.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture(scope="module")
def archive(scene: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seventy small photos of the astronaut, and a film: four shards."""
    folder = tmp_path_factory.mktemp("archive")
    face = np.asarray(scene.crop((160, 0, 400, 220)).resize((120, 110)))
    for number in range(70):
        Image.fromarray(np.roll(face, number % 10, axis=1)).save(folder / f"{number:02d}.jpg")
    frame = face[:, :, ::-1]
    write_film(folder / "film.mp4", [n / 10 for n in range(10)], lambda n: np.roll(frame, n, axis=1))
    return folder


def score(*arguments: object, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["score", "score", *map(str, arguments), "--out", str(out), *WITH])
    return main()


@pytest.mark.usefixtures("ray")
def test_an_archive_becomes_a_table_a_summary_and_training_data(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(archive, "--csv", "--crops", out=tmp_path / "out", monkeypatch=monkeypatch) == 0
    rows = rows_of(tmp_path / "out")
    faces = [row for row in rows if row["emotion"]]
    assert len({(row["source"], row["frame"]) for row in rows}) == 80
    assert f"{len(faces):,} faces in 70 photos and 10 frames" in capsys.readouterr().out
    with (tmp_path / "out/faces.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    page = (tmp_path / "out/summary.html").read_text()
    assert "film.mp4" in page
    assert page.count("<figure") > 10
    assert "http" not in page  # it needs nothing else
    crops = list(read_csv(tmp_path / "out/faces.csv.gz"))
    assert len(crops) == len(faces)
    assert {crop.problem for crop in crops} == {""}
    with gzip.open(tmp_path / "out/votes.csv.gz", "rt") as file:
        assert {sum(map(int, row[2:])) for row in list(csv.reader(file))[1:]} == {10}


@pytest.mark.usefixtures("ray")
def test_a_job_that_is_killed_goes_on_and_ends_with_the_same_rows(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "services.batch", "score", str(archive), "--out", str(tmp_path / "killed"), *WITH]
    job = subprocess.Popen([*command, "--cpus", "1"], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    shards = tmp_path / "killed/shards"
    until = time.monotonic() + 120
    while not (shards.is_dir() and any(shards.glob("*.json"))) and time.monotonic() < until and job.poll() is None:
        time.sleep(0.02)
    os.killpg(job.pid, signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in shards.glob("*.json")}
    assert finished
    time.sleep(1)  # its workers notice that it is gone
    assert score(archive, out=tmp_path / "killed", monkeypatch=monkeypatch) == 0
    assert {name: (shards / name).stat().st_mtime_ns for name in finished} == finished  # skipped
    assert score(archive, out=tmp_path / "whole", monkeypatch=monkeypatch) == 0
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")


@pytest.mark.usefixtures("ray")
def test_an_output_of_other_options_is_refused_and_gone_on_with_when_asked(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert score(archive / "00.jpg", out=out, monkeypatch=monkeypatch) == 0
    before = rows_of(out)
    assert score(archive / "00.jpg", "--max-faces", "1", out=out, monkeypatch=monkeypatch) == 2
    assert "max_faces 32 (now 1)" in capsys.readouterr().err
    assert score(archive / "00.jpg", "--prior", "natural", out=out, monkeypatch=monkeypatch) == 2
    assert "prior None (now natural)" in capsys.readouterr().err
    assert score(archive / "0[01].jpg", "--max-faces", "1", "--resume", out=out, monkeypatch=monkeypatch) == 0
    assert rows_of(out)[: len(before)] == before
    assert {Path(row["source"]).name for row in rows_of(out)} == {"00.jpg", "01.jpg"}


@pytest.mark.usefixtures("ray")
def test_an_unreadable_tar_file_beside_others_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photo(tmp_path / "in/a.png")
    (tmp_path / "in/b.tar").write_bytes(b"no tar" * 200)
    assert score(tmp_path / "in", out=tmp_path / "out", monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert "1 of the files could not be read completely; repeat the command to try again" in said.err
    assert [row["error"] for row in rows_of(tmp_path / "out")] == [None, "unreadable_archive"]


@pytest.mark.usefixtures("ray")
def test_the_example_runs_on_a_cluster_by_its_address(archive: Path, tmp_path: Path) -> None:
    import ray

    environment = os.environ | {
        "PYTHON": sys.executable, "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
        "MIEN_MODEL": str(SHIPPED_MODEL), "MIEN_DETECTOR": "haar",
    }  # fmt: skip
    few = tmp_path / "photos"
    few.mkdir()
    shutil.copy(archive / "00.jpg", few)
    command = ["sh", "examples/archive.sh", str(few), str(archive / "film.mp4"), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"face 1: happy in [345] frames", done.stdout)
    assert [row["time_s"] for row in rows_of(tmp_path / "out/film")] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.jpg"], "There is no file or folder none.jpg"),
        (["{empty}"], "There is no photo, film or tar file in"),
        (["gs://bucket"], "pip install gcsfs"),
        (["{photo}", "--address", "127.0.0.1:1"], "No Ray cluster answers at 127.0.0.1:1"),
        (["{photo}", "--address", "somewhere"], "--address is HOST:PORT"),
        (["{photo}", "--model", "none"], "There is no model in"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [text.format(empty=tmp_path / "empty", photo=write_photo(tmp_path / "a.png")) for text in arguments]
    monkeypatch.setattr(sys, "argv", ["score", "score", "--out", str(tmp_path / "out"), *WITH, *filled])
    assert main() == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_an_output_of_somebody_else_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = write_photo(tmp_path / "a.png")
    (tmp_path / "out/faces").mkdir(parents=True)
    (tmp_path / "out/faces/mine.txt").touch()
    assert score(photo, out=tmp_path / "out", monkeypatch=monkeypatch) == 2
    assert "is no output of this command" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert score(photo, out=tmp_path / "file", monkeypatch=monkeypatch) == 2
    assert score(photo, out=tmp_path / "file/out", monkeypatch=monkeypatch) == 2
    assert json.dumps("Traceback") not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0.2x", "-1s", "1:2:3:4"])
def test_times_are_checked(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="2"):
        score("a.mp4", "--every", text, out=tmp_path, monkeypatch=monkeypatch)
