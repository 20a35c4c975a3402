"""The centred window: nothing lags, each face alone, and a face that is hardly seen hardly counts."""

from collections.abc import Sequence

import pytest

from services.batch.smoothing import CentredWindow, Moment, Smoothed
from shared.analysis import Face
from shared.boxes import PixelBox
from shared.emotions import EMOTIONS
from shared.tracking import TrackedFace


def tracked(happy: float, identity: int = 1, confidence: float = 1.0) -> TrackedFace:
    shares = tuple(happy if name == "happy" else (1 - happy) / 6 for name in EMOTIONS)
    return TrackedFace(identity, Face(PixelBox(0, 0, 9, 9), confidence, shares), shares, "happy")


def smooth(moments: Sequence[tuple[float, list[TrackedFace]]], width_s: float = 0.4) -> list[Smoothed]:
    window, ready = CentredWindow(width_s), []
    for number, (time_s, faces) in enumerate(moments):
        ready += window.add(Moment(number, time_s, 96, 64, faces))
    return ready + list(window.rest())


def happy(smoothed: Smoothed, face: int = 0) -> float:
    return smoothed.probabilities[face][EMOTIONS.index("happy")]


def test_every_moment_comes_out_once_and_in_order() -> None:
    ready = smooth([(n / 10, [tracked(0.5)] if n % 3 else []) for n in range(20)])
    assert [one.moment.number for one in ready] == list(range(20))
    assert all(sum(shares) == pytest.approx(1) for one in ready for shares in one.probabilities)


def test_a_rise_is_in_the_middle_of_the_window_and_not_behind() -> None:
    ready = smooth([(n / 10, [tracked(0.0 if n < 10 else 1.0)]) for n in range(20)])
    levels = [happy(one) for one in ready]
    assert levels[8] == pytest.approx(0)
    assert levels[9] == pytest.approx(1 - levels[10])
    assert levels[11] == pytest.approx(1)


def test_a_face_that_is_hardly_seen_hardly_counts() -> None:
    moments = [(n / 10, [tracked(0.9)]) for n in range(5)]
    moments[2] = (0.2, [tracked(0.0, confidence=0.1)])
    assert happy(smooth(moments)[2]) > 0.8


def test_faces_are_smoothed_apart_and_zero_smooths_nothing() -> None:
    moments = [(n / 10, [tracked(0.9, 1), tracked(0.1, 2)]) for n in range(6)]
    for one in smooth(moments):
        assert (happy(one, 0), happy(one, 1)) == (pytest.approx(0.9), pytest.approx(0.1))
    jumping = [(n / 10, [tracked(n % 2)]) for n in range(6)]
    assert [happy(one) for one in smooth(jumping, 0)] == [n % 2 for n in range(6)]


def test_only_a_window_of_the_film_is_held() -> None:
    window = CentredWindow(0.4)
    for number in range(1000):
        list(window.add(Moment(number, number / 10, 96, 64, [tracked(0.5)])))
    assert len(window._past) + len(window._waiting) < 10
