"""Probabilities over time by a centred window: in an archive the future is known, so nothing lags behind."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np

from shared.tracking import TrackedFace

_UNSURE: Final = 0.5  # the weight of a face whose detector gives no confidence


@dataclass(frozen=True, slots=True)
class Moment:
    """The faces of one frame, with their identities; `number` and `time_s` are the frame's."""

    number: int
    time_s: float
    width: int
    height: int
    faces: Sequence[TrackedFace]


@dataclass(frozen=True, slots=True)
class Smoothed:
    """A moment, and for each of its faces the smoothed probabilities in the order of EMOTIONS, summing to 1."""

    moment: Moment
    probabilities: tuple[tuple[float, ...], ...]


@dataclass(slots=True)
class CentredWindow:
    """Smooths each identity over `width_s`, half before and half after. Holds no more than that much of a film.

    The weight of a reading falls linearly to 0 at the window's ends, times the detector's confidence: a face that is
    hardly seen hardly counts. 0 smooths nothing.
    """

    width_s: float
    _past: deque[Moment] = field(default_factory=deque)
    _waiting: deque[Moment] = field(default_factory=deque)

    def add(self, moment: Moment) -> Iterator[Smoothed]:
        """Take the next moment; give the earlier ones whose future is now known."""
        self._waiting.append(moment)
        while self._waiting[0].time_s < moment.time_s - self.width_s / 2:
            yield self._oldest()

    def rest(self) -> Iterator[Smoothed]:
        """The moments that still wait when the film ends."""
        while self._waiting:
            yield self._oldest()

    def _oldest(self) -> Smoothed:
        moment = self._waiting[0]
        while self._past and self._past[0].time_s <= moment.time_s - self.width_s / 2:
            self._past.popleft()
        smoothed = Smoothed(moment, tuple(self._smooth(face, moment.time_s) for face in moment.faces))
        self._past.append(self._waiting.popleft())
        return smoothed

    def _smooth(self, face: TrackedFace, time_s: float) -> tuple[float, ...]:
        if self.width_s <= 0:
            return face.face.probabilities
        total, weights = np.zeros(len(face.face.probabilities)), 0.0
        for moment in chain(self._past, self._waiting):
            nearness = 1 - abs(moment.time_s - time_s) / (self.width_s / 2)
            if nearness <= 0:
                continue
            for other in moment.faces:
                if other.id == face.id:
                    confidence = other.face.confidence
                    weight = nearness * (_UNSURE if confidence is None else max(confidence, 1e-3))
                    total += weight * np.asarray(other.face.probabilities)
                    weights += weight
        return tuple(map(float, total / weights))
