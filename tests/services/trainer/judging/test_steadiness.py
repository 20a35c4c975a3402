"""What a slight change does to the answer is measured the whole way, with a detector and a model."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from services.trainer.__main__ import main
from services.trainer.errors import DataError
from services.trainer.judging.groups import group_table, groups
from services.trainer.judging.steadiness import CHANGES, moved, steadiness
from shared.analyzer import Analyzer
from shared.answers import AnswerName, Prior
from shared.boxes import Box, DetectorName
from shared.choices import Probabilities
from shared.manifest import load_manifest
from shared.pictures import BgrImage, ImageLimits
from shared.pipeline.detect import Detection
from shared.pipeline.preprocess import FaceBatch
from tests.conftest import SHIPPED_MODEL

FACE = np.full((100, 100, 3), 60, np.uint8)


class WholePicture:
    """A detector that takes a bright enough picture as one face."""

    name: DetectorName = "haar"

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        height, width = image.shape[:2]
        return [Detection(Box(0, 0, width, height), 0.9)] if image.max() > 40 else []


class BrightSide:
    """Reads happy where the left half is the brighter one, else sad."""

    def classify(self, faces: FaceBatch, answer: AnswerName | None = None, prior: Prior | None = None) -> Probabilities:
        halves = np.stack([faces[:, :, :20].mean(axis=(1, 2, 3)), faces[:, :, -20:].mean(axis=(1, 2, 3))])
        return np.eye(7, dtype=np.float32)[np.where(halves[0] > halves[1], 3, 5)]


@pytest.fixture
def analyzer() -> Analyzer:
    return Analyzer(load_manifest(SHIPPED_MODEL), BrightSide(), WholePicture(), ImageLimits())


def photo(bright: slice) -> bytes:
    """A grey picture with one bright half."""
    picture = FACE.copy()
    picture[:, bright] = 200
    return cv2.imencode(".png", picture)[1].tobytes()


LEFT, RIGHT = photo(slice(0, 50)), photo(slice(50, 100))
DARK = cv2.imencode(".png", FACE // 2)[1].tobytes()  # 30: no face


def test_a_model_that_reads_one_side_fears_the_mirror_alone(analyzer: Analyzer) -> None:
    result = steadiness(analyzer, [("left", LEFT), ("right", RIGHT), ("dark", DARK), ("broken", b"no image")])
    assert (result.photos, result.answer, result.detector) == (2, analyzer.manifest.default_answer, "haar")
    assert (result.changes["mirror"].same, result.changes["mirror"].moved) == (0, 1)
    others = {name: change.same for name, change in result.changes.items() if name != "mirror"}
    assert set(others.values()) == {1}
    assert all(change.lost == 0 for change in result.changes.values())


def test_a_face_that_a_change_hides_is_counted_as_lost(analyzer: Analyzer) -> None:
    dim = cv2.imencode(".png", np.full((100, 100, 3), 70, np.uint8))[1].tobytes()
    change = steadiness(analyzer, [("dim", dim)]).changes["half as bright"]
    assert (change.photos, change.lost) == (0, 1)


def test_photos_without_a_face_are_no_measurement(analyzer: Analyzer) -> None:
    with pytest.raises(DataError, match="No face"):
        steadiness(analyzer, [("dark", DARK)])


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_changes_a_photo_and_keeps_it_a_photo(name: str, scene: Image.Image) -> None:
    pixels = np.asarray(scene)[:, :, ::-1]
    changed = CHANGES[name](pixels)
    assert changed.dtype == np.uint8
    assert changed.ndim == 3
    assert changed.shape != pixels.shape or (changed != pixels).any()


def test_the_distance_is_the_probability_that_changes_its_emotion() -> None:
    assert moved(np.eye(7, dtype=np.float32)[3], np.eye(7, dtype=np.float32)[4]) == 1
    assert moved(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.25)


def test_groups_are_compared_with_everyone(analyzer: Analyzer) -> None:
    photos = [(f"{number}.png", LEFT if number % 2 else RIGHT) for number in range(40)] + [("40.png", DARK)]
    table = {name: {"side": "odd" if int(name[:-4]) % 2 else "even", "emotion": "happy"} for name, _ in photos}
    result = groups(analyzer, [*photos, ("unknown.png", LEFT)], table, "halves")
    odd, even = result.groups["side"]["odd"], result.groups["side"]["even"]
    assert (odd.shares["happy"].value, even.shares["happy"].value) == (1, 0)
    accuracies = [scores.accuracy and scores.accuracy.value for scores in (odd, even, result.everyone)]
    assert accuracies == [1, 0, 0.5]
    assert (odd.photos, even.photos, result.everyone.photos) == (20, 21, 41)
    assert even.without_face.value == pytest.approx(1 / 21, abs=1e-4)
    assert even.without_face.low == 0 < even.without_face.value < even.without_face.high < 0.25
    assert odd.changed["mirror"].value == 1
    rows = {row[0]: row for row in group_table(result).rows}
    assert rows["side: odd"][7] == "100.0 (83.2-100.0) *"  # all of 20
    assert not rows["everyone"][7].endswith("*")


def test_groups_need_their_table(analyzer: Analyzer) -> None:
    with pytest.raises(DataError, match="None of these photos"):
        groups(analyzer, [("a.png", LEFT)], {"b.png": {"side": "odd"}}, "halves")


def test_both_are_written_into_the_card(tmp_path: Path, scene: Image.Image, capsys: pytest.CaptureFixture[str]) -> None:
    model = Path(shutil.copytree(SHIPPED_MODEL, tmp_path / "model"))
    (tmp_path / "photos").mkdir()
    for number in range(2):
        scene.resize((320, 240)).save(tmp_path / f"photos/{number}.jpg")
    (tmp_path / "photos/labels.csv").write_text("file,age\n" + "".join(f"{n}.jpg,{n}0-{n}9\n" for n in range(2)))
    assert main(["steadiness", str(model), str(tmp_path / "photos"), "--detector", "haar", "--card"]) == 0
    assert main(["groups", str(model), str(tmp_path / "photos"), "labels.csv", "--detector", "haar", "--card"]) == 0
    manifest, card = load_manifest(model), (model / "card.md").read_text()
    assert manifest.steadiness is not None
    assert manifest.groups is not None
    assert manifest.steadiness.photos == manifest.groups.everyone.photos == 2
    assert f"| mirror | {manifest.steadiness.changes['mirror'].same:.3f} |" in card
    assert "| age: 00-09 | 1 | 0.0 (0.0-97.5) |" in card
    assert "the section on groups says what was measured" in card
    assert "written: the card" in capsys.readouterr().out
