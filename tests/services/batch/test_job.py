"""An output remembers whose it is, and only one run at a time writes to it."""

from pathlib import Path

import pytest

from services.batch.errors import OutputError
from services.batch.job import Job, claim
from services.batch.storage import Output

BY = {"model": "default", "model_version": "1", "detector": "haar", "detector_version": "1"}
EVEN = (0.1, 0.1, 0.2, 0.2, 0.2, 0.1, 0.1)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output.at(str(tmp_path / "out"))


def test_the_same_job_goes_on(output: Output) -> None:
    job = Job(prior=EVEN, every_s=0.2)
    claim(output, job, BY, resume=False)
    claim(output, Job(prior=EVEN, every_s=0.2, model="moved/elsewhere"), BY, resume=False)


@pytest.mark.parametrize(
    ("job", "by", "said"),
    [
        (Job(prior="balanced"), BY, r"prior None \(now balanced\)"),
        (Job(), BY | {"model_version": "2"}, r"model_version 1 \(now 2\)"),
        (Job(every_s=0.5), BY | {"detector": "yunet"}, r"detector haar \(now yunet\), every_s None \(now 0.5\)"),
    ],
)
def test_another_job_is_refused_unless_it_is_to_go_on(output: Output, job: Job, by: dict[str, str], said: str) -> None:
    claim(output, Job(), BY, resume=False)
    with pytest.raises(OutputError, match=said):
        claim(output, job, by, resume=False)
    claim(output, job, by, resume=True)
    claim(output, job, by, resume=False)


def test_a_damaged_or_foreign_output_is_refused(output: Output) -> None:
    for content in ("{", "[]", '{"format": 99, "by": {}, "rows": {}}'):
        with output.written("job.json") as path:
            path.write_text(content)
        with pytest.raises(OutputError, match=r"Choose another --out"):
            claim(output, Job(), BY, resume=True)


def test_two_runs_do_not_write_to_one_output(output: Output) -> None:
    claim(output, Job(), BY, resume=False)
    with output.held(), pytest.raises(OutputError, match="Another run is writing"), Output.at(output.url).held():
        pass
    with output.held():
        pass


def test_what_a_killed_run_was_writing_is_removed_and_nothing_else(output: Output) -> None:
    claim(output, Job(), BY, resume=False)
    home = Path(output.path)
    for name in ("faces/.half.parquet", "faces/whole.parquet", "mine/.hidden"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).touch()
    output.tidy(("faces", "shards"))
    assert sorted(path.name for path in home.rglob("*") if path.is_file()) == [".hidden", "job.json", "whole.parquet"]
