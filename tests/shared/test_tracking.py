"""Faces keep their identity, and emotions do not flicker."""

import itertools

import numpy as np
import pytest

from shared.analyzer import Face
from shared.boxes import PixelBox
from shared.emotions import EMOTIONS
from shared.tracking import TrackedFace, Tracker, closeness


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


def test_boxes_far_apart_are_never_one_face() -> None:
    assert closeness(PixelBox(0, 0, 50, 50), PixelBox(200, 0, 50, 50)) == 0
    assert closeness(PixelBox(0, 0, 50, 50), PixelBox(0, 0, 50, 50)) == 2
    # Too fast for its old place to overlap, still near for its size.
    assert closeness(PixelBox(0, 0, 50, 50), PixelBox(28, 0, 50, 50)) > 0
