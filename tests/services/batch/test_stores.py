"""Archives in an object store: a real S3 server on this machine, and the client that users have."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3fs

from services.batch.__main__ import main
from services.batch.job import Job
from services.batch.plan import extend_plan, finished, shards
from services.batch.scoring import Scorer
from services.batch.sources import list_sources
from services.batch.storage import Output
from tests.services.batch.conftest import WITH, Bench, rows_of, tar_of, write_film, write_photo

# Ray does not wait for the processes that it ends.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
IN = "s3://archive/in"


@pytest.fixture(scope="module", autouse=True)
def bucket(store: s3fs.S3FileSystem, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Photos, one of them empty, a tar file, a film, and a list that also names a photo that is gone."""
    folder = tmp_path_factory.mktemp("bucket")
    photo = write_photo(folder / "photos/a.png").read_bytes()
    (folder / "photos/empty.png").touch()
    tar_of(folder / "set.tar", {"1.png": photo, "2.png": photo})
    write_film(folder / "film.mp4", [n / 10 for n in range(5)])
    (folder / "list.csv").write_text("path\nphotos/a.png\ngone.png\n")
    store.mkdir("archive")
    store.put(f"{folder}/", "archive/in/", recursive=True)


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Runs the command with a new client, which reads the environment of this test."""

    def command(*arguments: object) -> int:
        s3fs.S3FileSystem.clear_instance_cache()
        monkeypatch.setattr(sys, "argv", ["score", "score", *map(str, arguments), *WITH])
        return main()

    yield command
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("ray")
def test_photos_a_tar_file_and_a_film_of_a_bucket_are_scored_into_a_bucket(
    store: s3fs.S3FileSystem, tmp_path: Path, score: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = [f"{IN}/photos", f"{IN}/*.tar", f"{IN}/film.mp4", f"{IN}/list.csv"]
    assert score(*inputs, "--out", "s3://archive/out") == 0
    assert "3 photos and 5 frames" in capsys.readouterr().out
    store.get("archive/out/", f"{tmp_path}/out/", recursive=True)
    rows = {(row["source"], row["member"], row["frame"]): row["error"] for row in rows_of(tmp_path / "out")}
    assert rows == {
        (f"{IN}/photos/a.png", None, None): None,
        (f"{IN}/photos/empty.png", None, None): "undecodable_image",
        (f"{IN}/gone.png", None, None): "unreadable_file",
        (f"{IN}/set.tar", "1.png", None): None,
        (f"{IN}/set.tar", "2.png", None): None,
    } | {(f"{IN}/film.mp4", None, frame): None for frame in range(5)}
    assert "Shares of the emotions" in (tmp_path / "out/summary.html").read_text()
    written = store.info("archive/out/faces/000-000000.parquet")["LastModified"]
    assert score(*inputs, "--out", "s3://archive/out") == 0
    assert store.info("archive/out/faces/000-000000.parquet")["LastModified"] == written


@pytest.mark.parametrize(
    ("source", "out", "environment", "said"),
    [
        ("s3://none/in", "{tmp}", {}, "There is nothing at s3://none/in."),
        (IN, "s3://none/out", {}, "s3://none/out cannot be written: The specified bucket does not exist."),
        (IN, "{tmp}", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be listed: Could not connect to the endpoint"),
        ("{photo}", "s3://archive/out2", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be written: Could not connect"),
        (IN, "{tmp}", {"AWS_ACCESS_KEY_ID": "other"}, "cannot be listed: The AWS Access Key Id you provided does not exist"),
        ("{photo}", "s3://archive/out2", {"AWS_SECRET_ACCESS_KEY": "other"}, "cannot be written: Forbidden."),
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_used_is_told_in_one_line(
    source: str, out: str, environment: dict[str, str], said: str,
    tmp_path: Path, score: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    photo = write_photo(tmp_path / "a.png")
    assert score(source.format(photo=photo), "--out", out.format(tmp=tmp_path / "out")) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Check the name, the store's endpoint and the credentials." in err
    assert err.count("\n") == 1


def test_what_a_store_refuses_for_a_while_is_tried_again_by_the_next_run(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output.at(str(tmp_path / "out"))
    extend_plan(output, list_sources([f"{IN}/photos/a.png", f"{IN}/set.tar", f"{IN}/film.mp4"]))
    scorer = Scorer(Job(), output, bench.analyzer)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "expired")
        s3fs.S3FileSystem.clear_instance_cache()
        for shard in shards(output):
            scorer.score(shard)
    s3fs.S3FileSystem.clear_instance_cache()
    assert {row["error"] for row in rows_of(tmp_path / "out")} == {"unreadable_file", "unreadable_archive"}
    assert finished(output) == set()
    for shard in shards(output):
        scorer.score(shard)
    assert len(finished(output)) == 3
    assert {row["error"] for row in rows_of(tmp_path / "out")} == {None}
    assert output.names("shards") == ["000-000000.json", "000-000001.json", "000-000002.json"]
