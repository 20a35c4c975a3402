"""Faces keep their identity, and emotions do not flicker."""

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shared.analysis import Face, Options
from shared.analyzer import Analyzer
from shared.assembly import open_analyzer
from shared.boxes import PixelBox
from shared.detectors import DetectorFiles
from shared.emotions import EMOTIONS
from shared.pipeline.decode import Picture
from shared.tracking import TrackedFace, Tracker
from tests.conftest import SHIPPED_MODEL
from tests.crossings import Crossing, heads, seen


def face(x: float, y: float = 50, size: int = 80, emotion: str = "happy", of: float = 0.7) -> Face:
    probabilities = [(1 - of) / 6] * 7
    probabilities[EMOTIONS.index(emotion)] = of
    return Face(PixelBox(round(x), round(y), size, size), 0.9, tuple(probabilities))


def ids(tracked: list[TrackedFace]) -> list[int]:
    return [one.id for one in tracked]


def test_a_moving_and_growing_face_keeps_its_id() -> None:
    tracker = Tracker(half_life_s=0.25)
    seen = [ids(tracker.update((face(10 + 25 * n, size=60 + 6 * n),), n / 15))[0] for n in range(20)]
    assert set(seen) == {1}


def test_two_faces_keep_theirs_when_their_order_changes() -> None:
    tracker = Tracker(0.25)
    assert ids(tracker.update((face(50), face(400)), 0.0)) == [1, 2]
    assert ids(tracker.update((face(395), face(55)), 0.1)) == [2, 1]


def test_faces_that_pass_each_other_closely_go_to_the_nearest() -> None:
    tracker = Tracker(0.25)
    tracker.update((face(100), face(150)), 0.0)
    assert ids(tracker.update((face(148), face(104)), 0.1)) == [2, 1]


def test_a_short_miss_is_survived_and_a_long_one_is_not() -> None:
    tracker = Tracker(0.25)
    tracker.update((face(50),), 0.0)
    assert tracker.update((), 0.2) == []
    assert ids(tracker.update((face(55),), 0.5)) == [1]
    tracker.update((), 0.9)
    assert ids(tracker.update((face(55),), 1.4)) == [2]


def test_a_new_face_gets_an_id_that_was_never_given() -> None:
    tracker = Tracker(0.25)
    tracker.update((face(50),), 0.0)
    tracker.update((face(50), face(300)), 0.1)
    tracker.update((), 5.0)
    assert ids(tracker.update((face(50), face(300)), 6.0)) == [3, 4]


@pytest.mark.parametrize("frames_a_second", [5, 15, 30])
def test_smoothing_depends_on_time_not_on_frames(frames_a_second: int) -> None:
    tracker = Tracker(half_life_s=0.5)
    tracker.update((face(50, emotion="sad", of=1.0),), 0.0)
    for n in range(1, frames_a_second + 1):
        (tracked,) = tracker.update((face(50, emotion="happy", of=1.0),), n / frames_a_second)
    # After one second, two half-lives, a quarter of the old is left.
    assert tracked.probabilities[EMOTIONS.index("sad")] == pytest.approx(0.25, abs=1e-6)
    assert sum(tracked.probabilities) == pytest.approx(1)


def test_without_smoothing_each_frame_stands_for_itself() -> None:
    tracker = Tracker(half_life_s=0)
    tracker.update((face(50, emotion="sad"),), 0.0)
    (tracked,) = tracker.update((face(50, emotion="happy", of=0.4),), 0.1)
    assert tracked.emotion == "happy"
    assert tracked.probabilities == tracked.face.probabilities


def test_the_shown_emotion_changes_only_when_another_leads_clearly() -> None:
    tracker = Tracker(half_life_s=0.001)
    tracker.update((face(50, emotion="neutral", of=0.40),), 0.0)
    close = Face(PixelBox(50, 50, 80, 80), 0.9, (0.0, 0.0, 0.0, 0.45, 0.40, 0.15, 0.0))
    assert tracker.update((close,), 1.0 / 3)[0].emotion == "neutral"
    clear = Face(PixelBox(50, 50, 80, 80), 0.9, (0.0, 0.0, 0.0, 0.60, 0.30, 0.10, 0.0))
    assert tracker.update((clear,), 2.0 / 3)[0].emotion == "happy"


def test_flicker_falls_at_least_fivefold_on_a_still_face() -> None:
    rng = np.random.default_rng(3)
    tracker, raw, shown = Tracker(half_life_s=0.25), [], []
    for n in range(600):
        logits = np.zeros(7)
        logits[3], logits[4] = 1.2, 1.0
        exponents = np.exp(logits + rng.normal(0, 0.5, 7))
        noisy = Face(PixelBox(50 + int(rng.integers(-3, 4)), 50, 80, 80), 0.9, tuple(exponents / exponents.sum()))
        raw.append(noisy.emotion)
        shown.append(tracker.update((noisy,), n / 15)[0].emotion)

    def changes(values: list[str]) -> int:
        return sum(a != b for a, b in itertools.pairwise(values))

    assert changes(raw) > 100
    assert changes(shown) * 5 <= changes(raw)


def kept(crossing: Crossing, scene: Image.Image, find: Callable[..., list[Face]]) -> bool:
    """Whether both faces leave a crossing with the ids that they came with."""
    tracker, before, after = Tracker(0.25), {}, {}
    for at, picture, places in crossing.frames(heads(scene)):
        faces = find(picture, places)
        for tracked in tracker.update(tuple(faces), at):
            centre = tracked.face.box.x + tracked.face.box.width / 2
            owner = min((0, 1), key=lambda one: abs(places[one][0] - centre))
            apart = places[0][0] - places[1][0]
            if apart < -150:
                before.setdefault(owner, tracked.id)
            elif apart > 150:
                after[owner] = tracked.id
    return len(before) == 2 and before == after


PAIRS = [("astronaut", "happy"), ("astronaut", "mirrored"), ("happy", "angry")]


def test_nine_of_ten_crossings_keep_both_ids(scene: Image.Image) -> None:
    grid = itertools.product(PAIRS, (1.5, 3, 5), (0, 60), (5, 15), (0, 1))
    crossings = [Crossing(*values) for values in grid]
    rng = np.random.default_rng(2)
    lost = [one for one in crossings if not kept(one, scene, lambda p, t, one=one: seen(one, p, t, rng))]
    assert len(lost) <= len(crossings) / 10, lost


def found_by(analyzer: Analyzer) -> Callable[..., list[Face]]:
    def find(picture: np.ndarray, _: object) -> list[Face]:
        return list(analyzer.read(Picture(picture, 640, 480), Options()).faces)

    return find


def test_crossings_found_by_haar_keep_both_ids(scene: Image.Image) -> None:
    find = found_by(open_analyzer(SHIPPED_MODEL, "haar"))
    crossings = [
        Crossing(pair, 3, apart, 5, front) for pair, apart, front in zip(PAIRS, (0, 60, 0), (0, 1, 1), strict=True)
    ]
    assert [kept(crossing, scene, find) for crossing in crossings] == [True] * 3


def test_crossings_found_by_yunet_keep_both_ids(scene: Image.Image, yunet_model: Path) -> None:
    find = found_by(open_analyzer(SHIPPED_MODEL, "yunet", DetectorFiles(yunet=yunet_model)))
    crossings = [
        Crossing(pair, 3, apart, 15, front) for pair, apart, front in zip(PAIRS, (0, 60, 0), (0, 1, 1), strict=True)
    ]
    assert [kept(crossing, scene, find) for crossing in crossings] == [True] * 3


@pytest.mark.parametrize("frames_a_second", [5, 15, 30])
def test_a_face_that_jumps_by_half_its_size_keeps_its_id(frames_a_second: int) -> None:
    tracker = Tracker(0.25)
    places = [100] * 10 + [140] * 10 + [100] * 10
    seen_ids = [ids(tracker.update((face(x),), n / frames_a_second))[0] for n, x in enumerate(places)]
    assert set(seen_ids) == {1}


def head(name: str, scene: Image.Image, turn_deg: float = 0, grow: float = 1) -> Face:
    """The face of one of the heads, turned and grown a little, always in the same place."""
    matrix = cv2.getRotationMatrix2D((100, 100), turn_deg, grow)
    grey = cv2.cvtColor(cv2.warpAffine(heads(scene)[name], matrix, (200, 200)), cv2.COLOR_BGR2GRAY)
    return Face(
        PixelBox(100, 100, 130, 130),
        0.9,
        (1 / 7,) * 7,
        np.asarray(cv2.resize(grey[30:170, 30:170], (48, 48)), np.uint8),
    )


def test_a_face_that_nods_keeps_its_id(scene: Image.Image) -> None:
    tracker = Tracker(0.25)
    turns = [12 * np.sin(n) for n in range(25)]
    assert {ids(tracker.update((head("astronaut", scene, turn),), n / 5))[0] for n, turn in enumerate(turns)} == {1}


def test_the_id_of_a_face_that_left_is_not_given_to_another_in_its_place(scene: Image.Image) -> None:
    tracker = Tracker(0.25)
    tracker.update((head("astronaut", scene),), 0.0)
    tracker.update((), 0.2)
    assert ids(tracker.update((head("angry", scene),), 0.4)) == [2]


def test_a_cut_to_another_face_in_the_same_place_gives_a_new_id(scene: Image.Image) -> None:
    tracker = Tracker(0.25)
    assert ids(tracker.update((head("astronaut", scene),), 0.0)) == [1]
    assert ids(tracker.update((head("happy", scene),), 1 / 25)) == [2]


def test_a_face_behind_another_is_waited_for_longer() -> None:
    tracker = Tracker(0.25)
    tracker.update((face(100), face(110)), 0.0)
    for n in range(1, 20):
        assert ids(tracker.update((face(100),), n / 10)) == [1]
    assert ids(tracker.update((face(100), face(110)), 2.0)) == [1, 2]


def test_boxes_far_apart_are_never_one_face() -> None:
    tracker = Tracker(0.25)
    tracker.update((face(0),), 0.0)
    assert ids(tracker.update((face(200),), 0.1)) == [2]
