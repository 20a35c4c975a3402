"""What a shard adds up to: counts, the surest faces, and the course of each film; summary.html is made of these."""

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np

from services.batch.table import Place
from shared.analysis import Face
from shared.emotions import EMOTIONS
from shared.pipeline.decode import Picture

_SUREST: Final = 12  # faces kept of each emotion
_THUMB_PX: Final = 72
_BINS: Final = 240  # of a film's timeline at most: when it is full, two become one
_PEOPLE: Final = 48  # identities of a film that are followed for the timeline; the least seen are dropped


@dataclass(slots=True)
class Surest:
    """The surest faces of each emotion, with a small picture of each; one for each identity of a film."""

    found: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def offer(self, picture: Picture, place: Place, face: Face, identity: int | None, time_s: float | None) -> None:
        """Keep `face` where it is among the surest of its emotion."""
        surest, sure = self.found.setdefault(face.emotion, {}), max(face.probabilities)
        who = f"{place.source}|{place.member}|{identity if identity is not None else face.box}"
        least = min(surest, key=lambda key: surest[key]["sure"]) if len(surest) >= _SUREST else None
        rival = who if who in surest else least
        if rival is not None and surest[rival]["sure"] >= sure:
            return
        if rival is not None:
            del surest[rival]
        surest[who] = {
            "sure": round(sure, 4), "source": place.source, "member": place.member, "time_s": time_s,
            "jpeg": base64.b64encode(_thumbnail(picture, face)).decode(),
        }  # fmt: skip


def _thumbnail(picture: Picture, face: Face) -> bytes:
    """The face with a little of its surroundings, as a small square JPEG."""
    box, scale = face.box, picture.scale
    side = max(2.0, 1.2 * max(box.width, box.height) / scale)
    centre = ((box.x + box.width / 2) / scale, (box.y + box.height / 2) / scale)
    zoom = _THUMB_PX / side
    shift = np.array([[zoom, 0, _THUMB_PX / 2 - zoom * centre[0]], [0, zoom, _THUMB_PX / 2 - zoom * centre[1]]])
    flags = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    square = cv2.warpAffine(picture.pixels, shift, (_THUMB_PX, _THUMB_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


@dataclass(slots=True)
class Timeline:
    """The course of a film in bins of equal length, few enough to draw however long it is.

    A frame lasts until the next one, as in a player.
    """

    bin_s: float = 0.1
    end_s: float = 0.0
    frames: int = 0
    _last: Sequence[tuple[int, Sequence[float]]] = ()
    _all: dict[int, list[float]] = field(default_factory=dict)
    _people: dict[int, dict[int, list[float]]] = field(default_factory=dict)
    _seen: Counter[int] = field(default_factory=Counter)

    def add(self, time_s: float, faces: Sequence[tuple[int, Sequence[float]]]) -> None:
        """Count the faces of a frame: identity and smoothed probabilities of each."""
        while time_s >= self.bin_s * _BINS:
            self._all = _halved(self._all)
            self._people = {person: _halved(bins) for person, bins in self._people.items()}
            self.bin_s *= 2
        place = int(time_s / self.bin_s)
        for between in range(int(self.end_s / self.bin_s) + 1, place):
            self._count(between, self._last)
        self._count(place, faces)
        self._seen.update(person for person, _ in faces)
        self._last, self.end_s, self.frames = faces, time_s, self.frames + 1
        if len(self._people) > 2 * _PEOPLE:
            kept = {person for person, _ in self._seen.most_common(_PEOPLE)}
            self._people = {person: bins for person, bins in self._people.items() if person in kept}
            self._seen = Counter({person: self._seen[person] for person in kept})

    def _count(self, place: int, faces: Sequence[tuple[int, Sequence[float]]]) -> None:
        for person, probabilities in faces:
            for bins in (self._all, self._people.setdefault(person, {})):
                total = bins.setdefault(place, [0.0] * (len(EMOTIONS) + 1))
                for index, value in enumerate((*probabilities, 1.0)):
                    total[index] += value

    def as_json(self) -> dict[str, Any]:
        """Means for each bin: `all` over every face, `people` for the identities seen most."""
        most = [person for person, _ in self._seen.most_common(8)]
        return {
            "bin_s": self.bin_s,
            "end_s": round(self.end_s, 3),
            "all": _means(self._all),
            "people": {str(person): _means(self._people[person]) for person in most if person in self._people},
        }


def _halved(bins: dict[int, list[float]]) -> dict[int, list[float]]:
    merged: dict[int, list[float]] = {}
    for place, values in bins.items():
        total = merged.setdefault(place // 2, [0.0] * len(values))
        merged[place // 2] = [a + b for a, b in zip(total, values, strict=True)]
    return merged


def _means(bins: dict[int, list[float]]) -> dict[str, list[float]]:
    return {str(place): [round(v / total[-1], 3) for v in total[:-1]] for place, total in sorted(bins.items())}


@dataclass(slots=True)
class Tally:
    """What the rows of a shard add up to."""

    pictures: int = 0
    frames: int = 0
    empty: int = 0  # pictures without a face
    faces: int = 0
    again: int = 0  # files that the next run tries again
    emotions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    surest: Surest = field(default_factory=Surest)
    films: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Count the rows of one picture, or of one error."""
        first = rows[0]
        if first.get("error"):
            self.errors[first["error"]] += 1
            return
        self.pictures += 1
        self.frames += first.get("frame") is not None
        self.empty += first["faces"] == 0
        self.faces += first["faces"]
        self.emotions.update(row["emotion"] for row in rows if row.get("emotion"))

    def as_json(self) -> dict[str, Any]:
        """What the shard's manifest holds."""
        return {
            "pictures": self.pictures, "frames": self.frames, "empty": self.empty, "faces": self.faces,
            "again": self.again,
            "emotions": dict(self.emotions), "errors": dict(self.errors), "films": self.films,
            "surest": {emotion: list(found.values()) for emotion, found in self.surest.found.items()},
        }  # fmt: skip
