"""Two answers of one network become one ONNX file that gives both, calibrated, with the prior chosen for people."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from services.trainer.commands.arguments import GEOMETRY
from services.trainer.data.dataset import FER2013, SPLITS, Dataset
from services.trainer.data.geometry import read_geometry
from services.trainer.errors import ExportRefused
from services.trainer.judging.calibration import shares
from services.trainer.judging.evaluate import evaluate
from services.trainer.shipping.export import export
from services.trainer.shipping.quantize import quantize
from services.trainer.training.config import TargetConfig, TrainConfig
from services.trainer.training.predictors import open_predictor
from services.trainer.training.train import Start, train
from shared.manifest import load_manifest
from shared.pipeline.classify import open_classifier
from shared.pipeline.preprocess import to_input

VOTES_IN_MODEL_ORDER = [4, 5, 6, 1, 0, 3, 2]  # columns of FER+'s votes


@pytest.fixture(scope="module")
def voted(drawn: Dataset) -> Dataset:
    """Raters who agree with the label, but see neutral where it says sad."""
    votes = np.zeros((len(drawn), 10), np.uint8)
    seen = np.where(drawn.labels == 5, 4, drawn.labels)
    votes[np.arange(len(drawn)), np.array(VOTES_IN_MODEL_ORDER)[seen]] = 9
    return replace(drawn, votes=votes)


@pytest.fixture(scope="module")
def model(voted: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("two")
    people = TargetConfig(original_weight=0, label_smoothing=0.1)
    config = TrainConfig(network="mien-small:0.1", epochs=4, batch_size=14, people=people)
    train(config, voted, home / "run", quiet=True)
    geometry = read_geometry(GEOMETRY)
    return export(home / "run", voted, geometry, home / "models/two").directory


def test_the_onnx_file_names_its_outputs_by_answer(model: Path) -> None:
    graph = onnx.load(model / "model.onnx").graph
    assert {output.name for output in graph.output} == {"labels", "people"}


def test_the_manifest_knows_each_answer(model: Path, voted: Dataset) -> None:
    manifest = load_manifest(model)
    assert manifest.default_answer == "people"
    people, labels = manifest.answers["people"], manifest.answers["labels"]
    assert people.frequencies is not None
    assert labels.frequencies is not None
    assert people.frequencies[5] < 0.05 < labels.frequencies[5]  # raters see nobody sad
    assert people.golden != labels.golden
    assert people.frequencies == shares(voted.split("validation").consensus)
    assert people.shift is not None
    assert people.shift[5] < 0  # raters see nobody sad
    assert set(manifest.metrics["test"]) == {"labels", "people"}
    assert manifest.metrics["test"]["people"]["consensus"].images == 21
    assert manifest.metrics == evaluate(open_predictor(model), voted, SPLITS[1:])


def test_the_card_shows_both_answers(model: Path) -> None:
    card = (model / "card.md").read_text()
    assert "`people` is what people see in a face" in card
    assert "| PrivateTest | people | consensus of at least" in card
    assert "of `people`, the share of FER+'s votes, where there are any, for 100%, smoothed by 0.1" in card


def test_the_default_prior_is_the_one_with_the_better_mean_of_accuracy_and_recall(model: Path, voted: Dataset) -> None:
    manifest = load_manifest(model)
    classifier = open_classifier(model, manifest, threads=1)
    part = voted.split("validation")
    means = {}
    kinds = {"natural", manifest.default_prior.kind}
    for kind in kinds:
        predicted = classifier.classify(to_input(part.pixels), "people", kind).argmax(axis=1)
        recalls = [(predicted == c)[part.consensus == c].mean() for c in np.unique(part.consensus)]
        means[kind] = (predicted == part.consensus).mean() + np.mean(recalls)
    best = max(means, key=lambda kind: (round(means[kind], 4), kind == "natural"))
    assert manifest.default_prior.kind == best
    assert (manifest.default_prior.metrics is None) == (best == "natural")


def test_int8_answers_both_and_is_refused_when_either_loses_too_much(model: Path, voted: Dataset) -> None:
    done = quantize(model, voted, model.parent / "int8", max_loss=1)
    assert set(done.accuracy) == {"labels", "people"}
    faces = voted.split("test").pixels
    whole, small = open_predictor(model)(faces), open_predictor(done.directory)(faces)
    for name in whole:
        assert np.abs(whole[name] - small[name]).mean() < 0.05, name
    kinds = [node.op_type for node in onnx.load(done.directory / "model.onnx").graph.node]
    assert kinds.count("Softmax") == 4  # of the network and of the temperature, in float
    with pytest.raises(ExportRefused, match=r"validation accuracy of (labels|people)"):
        quantize(model, voted, model.parent / "refused", max_loss=-1)


def test_weights_are_licensed_where_all_that_they_came_from_is_known(
    drawn: Dataset, brief: TrainConfig, tmp_path: Path
) -> None:
    data, once = replace(drawn, name=FER2013), brief.model_copy(update={"epochs": 1})
    geometry = read_geometry(GEOMETRY)
    train(once, data, tmp_path / "first", quiet=True)
    train(once, data, tmp_path / "next", Start(init=(tmp_path / "first/best.keras",)), quiet=True)
    (tmp_path / "first/best.keras").rename(tmp_path / "lone.keras")
    train(once, data, tmp_path / "other", Start(init=(tmp_path / "lone.keras",)), quiet=True)
    licences = {
        run: export(tmp_path / run, data, geometry, tmp_path / "models" / run).manifest for run in ("next", "other")
    }
    assert {run: manifest.license for run, manifest in licences.items()} == {"next": "Apache-2.0", "other": "other"}
    assert [source.name for source in licences["next"].training.began_with] == ["first"]
