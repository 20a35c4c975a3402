"""Faces that keep their identity from frame to frame, and emotions that do not flicker.

Each face is followed by a Kalman filter of constant velocity, so faces that cross are told apart by where they were
going; and by a tiny picture of it, which decides where boxes overlap and whether a face that comes back is the one that
was hidden. Detections go to tracks greedily, best pair first: an optimal assignment would need SciPy, the largest package in the
image, and a crossing has only two faces to assign.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.analysis import Face
from shared.boxes import PixelBox
from shared.emotions import EMOTIONS
from shared.pictures import GreyImage

_SURVIVES_S: Final = 0.7  # unseen: the detector missed it, a hand passed before it…
_SURVIVES_BEHIND_S: Final = 2.5  # …and unseen because another face is in front of it
_MIN_OVERLAP: Final = 0.1  # intersection over union of one face in two frames…
_NEAR: Final = 0.6  # …or the distance from where it was expected, in sizes of the face
_DRIFT: Final = 0.5  # by which that distance grows for each second unseen
_MARGIN: Final = 0.08  # by which another emotion must lead before it is shown
_ACCELERATION: Final = 4.0  # standard deviation of a head's, in sizes per second squared
_JITTER: Final = 0.04  # standard deviation of a detector's box, in sizes…
_JITTER_CROWDED: Final = 0.2  # …and where it may frame only the part of a face that is visible
_HEAD: Final = 1.4  # width of a head in widths of its face: hair covers others too
_LOOK_SIDE_PX: Final = 12
# Correlation of two looks. Of two strangers it is .2 at the median and above .5 for one pair in ten; of one face turned
# by 5 degrees, enlarged by 10 % and lit differently it is .8 at the median and below .45 for one in twenty.
_MIN_ALIKE: Final = 0.3  # from one frame to the next; less is a cut to another person
_MIN_ALIKE_UNSEEN: Final = 0.5  # after it was hidden

Array: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """A face of this frame: `face` as it was read, and what is known of it over time."""

    id: int
    face: Face
    probabilities: tuple[float, ...]  # smoothed, in the order of EMOTIONS, summing to 1
    emotion: str  # shown: changes only when another leads clearly


class _Motion:
    """A face's centre in pixels and its velocity in pixels per second, by a Kalman filter of constant velocity.

    Across and down have the same noise, so one covariance (2, 2) serves both.
    """

    def __init__(self, centre: Array, size: float) -> None:
        self.state = np.stack([centre, np.zeros(2)])  # (2, 2): centre and velocity, across and down
        self._covariance = np.diag([(_JITTER * size) ** 2, (2 * size) ** 2])

    def after(self, elapsed_s: float) -> Array:
        """Where the centre will be."""
        return np.asarray(self.state[0] + elapsed_s * self.state[1])

    def follow(self, centre: Array, jitter: float, size: float, elapsed_s: float) -> None:
        """Take in the centre found `elapsed_s` after the last one; `jitter` is the box's noise, in sizes."""
        step = np.array([[1, elapsed_s], [0, 1]])
        pushed = np.array([elapsed_s**2 / 2, elapsed_s]) * _ACCELERATION * size
        state, covariance = step @ self.state, step @ self._covariance @ step.T + np.outer(pushed, pushed)
        gain = covariance[:, 0] / (covariance[0, 0] + (jitter * size) ** 2)
        self.state = state + np.outer(gain, centre - state[0])
        self._covariance = covariance - np.outer(gain, covariance[0])


@dataclass(slots=True)
class _Track:
    id: int
    motion: _Motion
    box: Array  # centre across, centre down, width, height: as last seen
    look: Array | None
    probabilities: tuple[float, ...]
    shown: int
    seen_s: float
    excused_s: float  # until when it was seen, or known to be behind another

    def expected(self, now_s: float) -> Array:
        return np.concatenate([self.motion.after(now_s - self.seen_s), self.box[2:]])


@dataclass(slots=True)
class Tracker:
    """The faces of one session over time. Old probabilities fade with the half-life `half_life_s`; 0 keeps none."""

    half_life_s: float
    _tracks: list[_Track] = field(default_factory=list)
    _next_id: int = 1
    _last_s: float = 0.0

    def update(self, faces: tuple[Face, ...], now_s: float) -> list[TrackedFace]:
        """The faces of a frame taken at `now_s` (by any clock that never goes back), in their order, with their identities."""
        self._tracks = [track for track in self._tracks if _is_alive(track, now_s)]
        boxes = np.array([_centred(face.box) for face in faces]).reshape(-1, 4)
        looks = [_look(face.crop) for face in faces]
        expected = np.array([track.expected(now_s) for track in self._tracks]).reshape(-1, 4)
        crowded = (_touching(boxes, boxes).sum(axis=1) > 1) | (_touching(boxes, expected).sum(axis=1) > 1)
        matched = self._match(boxes, expected, looks, crowded)
        tracked = []
        for number, face in enumerate(faces):
            track = matched.get(number)
            if track is None:
                track = self._begin(face, boxes[number], looks[number], now_s)
            else:
                self._smooth(track, face, now_s - track.seen_s)
                self._follow(track, boxes[number], looks[number], crowded[number], now_s)
            tracked.append(TrackedFace(track.id, face, track.probabilities, EMOTIONS[track.shown]))
        self._excuse(boxes, now_s)
        self._last_s = now_s
        return tracked

    def _match(self, boxes: Array, expected: Array, looks: list[Array | None], crowded: Flags) -> dict[int, _Track]:
        if not self._tracks or not len(boxes):
            return {}
        last = np.array([track.box for track in self._tracks])
        unseen_s = np.array([self._last_s - track.seen_s for track in self._tracks])[:, None]
        missed = unseen_s > 0
        reach = _NEAR + _DRIFT * unseen_s
        alike = _likeness([track.look for track in self._tracks], looks)
        near = closeness(expected, boxes, reach)
        # A hidden face may have stopped or turned back. One that was seen in the last frame is the safer match.
        near = np.where(missed, np.maximum(near, closeness(last, boxes, reach)) / 2, near)
        enough = crowded | (alike >= np.where(missed, _MIN_ALIKE_UNSEEN, _MIN_ALIKE))
        score = np.where((near > 0) & enough, near + alike, -np.inf)
        matched: dict[int, _Track] = {}
        while (best := score.max()) > -np.inf:
            row, number = np.argwhere(score == best)[0]
            matched[int(number)] = self._tracks[row]
            score[row], score[:, number] = -np.inf, -np.inf
        return matched

    def _begin(self, face: Face, box: Array, look: Array | None, now_s: float) -> _Track:
        shown = EMOTIONS.index(face.emotion)
        motion = _Motion(box[:2], float(_size(box)))
        track = _Track(self._next_id, motion, box, look, face.probabilities, shown, now_s, now_s)
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _smooth(self, track: _Track, face: Face, elapsed_s: float) -> None:
        # By elapsed time, not by frame: the same at 5 and at 30 frames a second.
        keep = 0.5 ** (elapsed_s / self.half_life_s) if self.half_life_s > 0 else 0.0
        pairs = zip(track.probabilities, face.probabilities, strict=True)
        track.probabilities = tuple(keep * old + (1 - keep) * new for old, new in pairs)
        best = max(range(len(EMOTIONS)), key=track.probabilities.__getitem__)
        lead = track.probabilities[best] - track.probabilities[track.shown]
        if lead > (_MARGIN if self.half_life_s > 0 else 0.0):
            track.shown = best

    def _follow(self, track: _Track, box: Array, look: Array | None, crowded: bool, now_s: float) -> None:
        """Take in where a face was found, with less trust in its box where another may cover part of it."""
        track.motion.follow(box[:2], _JITTER_CROWDED if crowded else _JITTER, float(_size(box)), now_s - track.seen_s)
        track.box = np.concatenate([box[:2], track.box[2:] if crowded else box[2:]])
        if not crowded or track.look is None:
            track.look = look
        track.seen_s = track.excused_s = now_s

    def _excuse(self, boxes: Array, now_s: float) -> None:
        """Let faces that are behind another stay unseen for longer."""
        for track in self._tracks:
            if track.seen_s < now_s and _overlaps(track.expected(now_s)[None], boxes).max(initial=0) > _MIN_OVERLAP:
                track.excused_s = now_s


def _is_alive(track: _Track, now_s: float) -> bool:
    return now_s - track.excused_s <= _SURVIVES_S and now_s - track.seen_s <= _SURVIVES_BEHIND_S


def closeness(tracks: Array, boxes: Array, reach: Array | float) -> Array:
    """How likely each box (m, 4) is the face of each track (n, 4), as (n, m): 0 is impossible, 2 is the same place.

    Boxes are centre across, centre down, width, height; `reach`, (n, 1), is the largest distance in sizes.
    """
    overlap = _overlaps(tracks, boxes)
    # In sizes of the track, since the box of a half-covered face is smaller.
    distance = np.linalg.norm(tracks[:, None, :2] - boxes[None, :, :2], axis=2) / _size(tracks)[:, None]
    return np.where((overlap < _MIN_OVERLAP) & (distance > reach), 0.0, overlap + np.exp(-distance))


def _touching(boxes: Array, others: Array) -> Flags:
    """Whether the head of one may cover part of the other's face, for each pair, (n, m)."""
    heads, other_heads = boxes * (1, 1, _HEAD, _HEAD), others * (1, 1, _HEAD, _HEAD)
    return np.asarray(_intersections(heads, other_heads) > 0)


def _overlaps(some: Array, others: Array) -> Array:
    """Intersection over union of each pair, (n, m)."""
    both = _intersections(some, others)
    return np.asarray(both / (some[:, 2:].prod(axis=1)[:, None] + others[:, 2:].prod(axis=1)[None] - both))


def _intersections(some: Array, others: Array) -> Array:
    low = np.maximum((some[:, :2] - some[:, 2:] / 2)[:, None], (others[:, :2] - others[:, 2:] / 2)[None])
    high = np.minimum((some[:, :2] + some[:, 2:] / 2)[:, None], (others[:, :2] + others[:, 2:] / 2)[None])
    return np.asarray(np.maximum(high - low, 0).prod(axis=2))


def _size(box: Array) -> Array:
    return np.asarray(np.sqrt(box[..., 2] * box[..., 3]))


def _centred(box: PixelBox) -> tuple[float, float, float, float]:
    return box.x + box.width / 2, box.y + box.height / 2, box.width, box.height


def _look(crop: GreyImage | None) -> Array | None:
    """Light and dark of a face as a unit vector (144,); None without a crop, or if the crop is all one grey."""
    if crop is None:
        return None
    down, across = (_averages(side) for side in crop.shape)
    small = (down @ crop @ across.T).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > 0 else None


@lru_cache
def _averages(side_px: int) -> Array:
    """(12, side_px): times a column of pixels, the mean of each twelfth of it."""
    edges, pixels = np.linspace(0, side_px, _LOOK_SIDE_PX + 1), np.arange(side_px)
    low, high = np.maximum(edges[:-1, None], pixels), np.minimum(edges[1:, None], pixels + 1)
    return np.asarray(np.maximum(high - low, 0) * _LOOK_SIDE_PX / side_px)


def _likeness(tracks: list[Array | None], faces: list[Array | None]) -> Array:
    """Correlation of the looks of each pair, (n, m); 1 where one is unknown: place alone decides."""
    alike = np.ones((len(tracks), len(faces)))
    for row, one in enumerate(tracks):
        for column, other in enumerate(faces):
            if one is not None and other is not None:
                alike[row, column] = one @ other
    return alike
