"""Faces that keep their identity from frame to frame, and emotions that do not flicker.

Detections are assigned to tracks greedily, best pair first. A handful of faces that overlap little between frames gives
the optimal assignment no advantage, and SciPy, which has it, would be the largest thing in the image.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from shared.analyzer import Face
from shared.boxes import PixelBox, intersection_over_union
from shared.emotions import EMOTIONS

_SURVIVES_S: Final = 0.7  # without being seen: a blink of the detector, a hand passing
_MIN_OVERLAP: Final = 0.1  # intersection over union of the same face in two frames…
_NEAR: Final = 0.6  # …or its centre moved by no more than this share of its size
_MARGIN: Final = 0.08  # by which another emotion must lead before it is shown


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """A face of this frame: `face` as it was read, and what is known of it over time."""

    id: int
    face: Face
    probabilities: tuple[float, ...]  # smoothed, in the order of EMOTIONS, summing to 1
    emotion: str  # shown: changes only when another leads clearly


@dataclass(slots=True)
class _Track:
    id: int
    box: PixelBox
    probabilities: tuple[float, ...]
    shown: int
    seen_s: float


@dataclass(slots=True)
class Tracker:
    """The faces of one session over time. `half_life_s` is how fast old probabilities fade; 0 keeps none."""

    half_life_s: float
    _tracks: list[_Track] = field(default_factory=list)
    _next_id: int = 1

    def update(self, faces: tuple[Face, ...], now_s: float) -> list[TrackedFace]:
        """The faces of a frame taken at `now_s` (any clock that only grows), in their order, with their identities."""
        self._tracks = [track for track in self._tracks if now_s - track.seen_s <= _SURVIVES_S]
        matched = self._match(faces)
        tracked = []
        for number, face in enumerate(faces):
            track = matched.get(number)
            if track is None:
                track = self._begin(face, now_s)
            else:
                self._follow(track, face, now_s)
            tracked.append(TrackedFace(track.id, face, track.probabilities, EMOTIONS[track.shown]))
        return tracked

    def _match(self, faces: tuple[Face, ...]) -> dict[int, _Track]:
        pairs = [
            (closeness(track.box, face.box), number, track)
            for track in self._tracks
            for number, face in enumerate(faces)
        ]
        matched: dict[int, _Track] = {}
        taken: set[int] = set()
        for score, number, track in sorted(pairs, key=lambda pair: pair[0], reverse=True):
            if score > 0 and number not in matched and track.id not in taken:
                matched[number] = track
                taken.add(track.id)
        return matched

    def _begin(self, face: Face, now_s: float) -> _Track:
        shown = EMOTIONS.index(face.emotion)
        track = _Track(self._next_id, face.box, face.probabilities, shown, now_s)
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _follow(self, track: _Track, face: Face, now_s: float) -> None:
        # By elapsed time, not by frame: the same at 5 and at 30 frames a second.
        keep = 0.5 ** ((now_s - track.seen_s) / self.half_life_s) if self.half_life_s > 0 else 0.0
        pairs = zip(track.probabilities, face.probabilities, strict=True)
        track.probabilities = tuple(keep * old + (1 - keep) * new for old, new in pairs)
        best = max(range(len(EMOTIONS)), key=track.probabilities.__getitem__)
        lead = track.probabilities[best] - track.probabilities[track.shown]
        if lead > (_MARGIN if self.half_life_s > 0 else 0.0):
            track.shown = best
        track.box, track.seen_s = face.box, now_s


def closeness(one: PixelBox, other: PixelBox) -> float:
    """How likely two boxes of successive frames are one face: 0 is not at all, 2 the very same place."""
    overlap = intersection_over_union(one, other)
    size = math.sqrt(math.sqrt(one.width * one.height * other.width * other.height))
    across = (one.x + one.width / 2) - (other.x + other.width / 2)
    down = (one.y + one.height / 2) - (other.y + other.height / 2)
    distance = math.hypot(across, down) / size
    if overlap < _MIN_OVERLAP and distance > _NEAR:
        return 0.0
    return overlap + max(0.0, 1 - distance)
