"""A run knows the whole line of runs that it goes back to, and so does the card of its model."""

import json
from pathlib import Path

import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.errors import WorkdirError
from services.trainer.training.ancestry import source_of
from services.trainer.training.config import TrainConfig
from services.trainer.training.train import Start, train
from services.trainer.training.workdir import Workdir
from shared.manifest import Source, load_manifest, sha256_of
from tests.conftest import SHIPPED_MODEL


@pytest.fixture
def runs(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> Path:
    """`child` began with the best weights of `parent`, which began with random ones."""
    once = brief.model_copy(update={"epochs": 1})
    train(once, drawn, tmp_path / "parent", quiet=True)
    train(once, drawn, tmp_path / "child", Start(init=(tmp_path / "parent/best.keras",)), quiet=True)
    return tmp_path


def test_a_run_is_known_with_all_that_it_goes_back_to(runs: Path, drawn: Dataset) -> None:
    parent = Source(name="parent", sha256=sha256_of(runs / "parent/best.keras"), data=drawn.name)
    child = Source(name="child", sha256=sha256_of(runs / "child/best.keras"), data=drawn.name, began_with=(parent,))
    assert source_of(runs / "child") == source_of(runs / "child/best.keras") == child
    assert Workdir(runs / "child").read_run()["began_with"] == [parent.model_dump()]
    assert set(parent.model_dump()) == {"name", "sha256", "data"}


def test_a_model_directory_is_known_by_its_manifest() -> None:
    manifest = load_manifest(SHIPPED_MODEL)
    source = source_of(SHIPPED_MODEL)
    assert (source.name, source.sha256, source.data) == (SHIPPED_MODEL.name, manifest.sha256, "FER2013")
    assert source.began_with == manifest.training.began_with
    assert source.teachers == manifest.training.teachers


def test_only_name_and_hash_are_known_of_a_file_outside_a_run(runs: Path) -> None:
    for place in (runs / "lone.keras", runs / "parent/other.keras"):
        place.write_bytes((runs / "child/best.keras").read_bytes())
        assert source_of(place) == Source(name=place.name, sha256=sha256_of(place))
    with pytest.raises(WorkdirError, match="holds no run"):
        source_of(runs)


@pytest.mark.parametrize("written", ["{", '{"config": {"network": "an old one", "epochs": -1}}', None])
def test_a_run_that_cannot_be_read_is_told_instead_of_forgotten(runs: Path, written: str | None) -> None:
    best = runs / "parent/best.keras"
    if written is None:  # readable, but its teachers are none
        written = json.dumps(Workdir(runs / "parent").read_run() | {"teachers": [{"name": "nobody"}]})
    (runs / "parent/run.json").write_text(written)
    with pytest.raises(WorkdirError, match=r"damaged|another version"):
        source_of(best)


def test_a_run_that_began_with_two_knows_both(runs: Path, drawn: Dataset) -> None:
    told = Workdir(runs / "child").read_run()
    both = {"init_sha256": "1" * 64 + "+" + "2" * 64}
    (runs / "child/run.json").write_text(json.dumps({k: v for k, v in told.items() if k != "began_with"} | both))
    assert [source.sha256 for source in source_of(runs / "child").began_with] == ["1" * 64, "2" * 64]


def test_a_source_is_written_so_that_it_can_be_read(drawn: Dataset) -> None:
    for source in (Source(name="", sha256="0" * 64), Source(name="a", sha256="", data=drawn.name)):
        assert Source.model_validate_json(source.model_dump_json()) == source


def test_a_run_of_an_older_trainer_learns_what_it_began_with_when_it_goes_on(
    runs: Path, drawn: Dataset, brief: TrainConfig
) -> None:
    told = Workdir(runs / "child").read_run()
    old = {name: value for name, value in told.items() if name != "began_with"}
    (runs / "child/run.json").write_text(json.dumps(old))
    assert source_of(runs / "child").began_with == (Source(name="an unnamed run", sha256=told["init_sha256"]),)
    start = Start(init=(runs / "parent/best.keras",))
    train(brief.model_copy(update={"epochs": 1}), drawn, runs / "child", start, quiet=True)
    assert Workdir(runs / "child").read_run() == told
