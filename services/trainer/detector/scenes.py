"""Scenes to learn from, made of the packed pictures: photos, collages, grids and places without people."""

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.detector.degrade import degrade
from services.trainer.detector.pieces import Placement, Scene, mirrored, paste
from services.trainer.detector.sources import Kind, Source, Sources, Split
from shared.pictures import BgrImage

Rng = np.random.Generator
MID_GREY: Final = 128
LEAST_FACE_PX: Final = 9  # smaller ones are neither taught nor wrong to find
TURN_DEG: Final = 45


@dataclass(frozen=True, slots=True)
class Composer:
    """Makes scenes of `side` pixels; the same generator state gives the same scene."""

    sources: Sources
    side: int
    split: Split = "training"
    hard: npt.NDArray[np.float64] | None = None  # how often each picture of "scenes" is drawn, once mined

    def scene(self, rng: Rng) -> Scene:
        """A scene with its faces; those smaller than 9 pixels are to be ignored."""
        kinds = (self._photo, self._collage, self._grid, self._place, self._close_up)
        make = kinds[rng.choice(5, p=(0.32, 0.25, 0.14, 0.13, 0.16))]
        scene = make(rng)
        if rng.random() < 0.1:
            _see_from_afar(scene, rng)
        elif rng.random() < 0.15:
            self._fill_up(scene, rng)
        sides = np.sqrt(scene.faces[:, 2] * scene.faces[:, 3])
        scene.ignored = np.vstack([scene.ignored, scene.faces[sides < LEAST_FACE_PX, :4]])
        scene.faces = scene.faces[sides >= LEAST_FACE_PX]
        scene.pixels = degrade(scene.pixels, rng)
        return scene

    def _photo(self, rng: Rng) -> Scene:
        """One photo of a person, as close as its face allows, over the whole picture or most of it."""
        scene = self._background(rng)
        source = self._draw("people" if rng.random() < 0.65 else "faces", rng)
        to = tuple(rng.uniform(0.15, 0.85, 2) * self.side)
        self._put(scene, source, _log_uniform(rng, 0.15, 1.3) * self.side, to, rng)
        for _ in range(int(rng.integers(0, 5))):
            self._put_anywhere(scene, rng, (10, 60))
        return scene

    def _collage(self, rng: Rng) -> Scene:
        """Faces and other things of many sizes on a place or on plain colour."""
        scene = self._background(rng)
        for _ in range(int(rng.integers(4, 14))):
            if rng.random() < 0.25:
                self._put_thing(scene, rng)
            else:
                self._put_anywhere(scene, rng, (LEAST_FACE_PX, 110))
        return scene

    def _grid(self, rng: Rng) -> Scene:
        """One picture or rows of them, like contact sheets and video calls: people, faces and places."""
        scene = self._background(rng)
        tiles = int(rng.choice((1, 1, 2, 3, 4, 5)))
        step = self.side / tiles
        gap = rng.uniform(0.85, 1.05)
        for row in range(tiles):
            for column in range(tiles):
                kind: Kind = ("people", "faces", "scenes")[rng.choice(3, p=(0.4, 0.4, 0.2))]
                source = self._draw(kind, rng)
                height, width = source.pixels.shape[:2]
                to = ((column + 0.5) * step, (row + 0.5) * step)
                scale = step * gap / min(height, width)
                paste(scene, source, Placement((width / 2, height / 2), to, scale, rng.normal(0, 4), False, 0.01))
        return scene

    def _place(self, rng: Rng) -> Scene:
        """A place as it is, half of the time with a few small faces in it."""
        scene = self._whole(self._draw("scenes", rng), rng)
        if rng.random() < 0.5:
            for _ in range(int(rng.integers(1, 6))):
                self._put_anywhere(scene, rng, (LEAST_FACE_PX, 48))
        return scene

    def _close_up(self, rng: Rng) -> Scene:
        """One picture, as large as the scene or smaller: in a corner and black beside it, or with grey around it."""
        afar = rng.random() < 0.5
        scene = Scene(np.full((self.side, self.side, 3), MID_GREY if afar else 0, np.uint8))
        source = self._draw("people" if rng.random() < 0.4 else "faces", rng)
        height, width = source.pixels.shape[:2]
        scale = _log_uniform(rng, 0.3, 1.0) * self.side / max(height, width)
        middle = (width / 2, height / 2), (self.side / 2, self.side / 2)
        paste(scene, source, Placement(*middle, scale) if afar else Placement((0, 0), (0, 0), scale))
        return scene

    def _fill_up(self, scene: Scene, rng: Rng) -> None:
        """Black to the right and below, as where a picture is filled up to whole cells."""
        black = Source(np.zeros((self.side, self.side, 3), np.uint8), scene.faces[:0], scene.ignored[:0])
        for to in ((self.side - int(rng.integers(1, 32)), 0.0), (0.0, self.side - int(rng.integers(1, 32)))):
            paste(scene, black, Placement((0, 0), to, 1.0))

    def _background(self, rng: Rng) -> Scene:
        if rng.random() < 0.75:
            return self._whole(self._draw("scenes", rng), rng)
        colours = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
        if rng.random() < 0.5:
            colours[:] = colours[0, 0]
        size = (self.side, self.side)
        return Scene(np.asarray(cv2.resize(colours, size, interpolation=cv2.INTER_LINEAR), np.uint8))

    def _whole(self, source: Source, rng: Rng) -> Scene:
        """A part of a place over the whole scene, between half and twice its size."""
        scene = Scene(np.zeros((self.side, self.side, 3), np.uint8))
        source = _varied(source, rng)
        height, width = source.pixels.shape[:2]
        least = self.side / min(height, width)
        scale = _log_uniform(rng, least, max(least * 1.01, 2.2))
        room = self.side / scale
        left, top = rng.uniform(0, width - room), rng.uniform(0, height - room)
        paste(scene, source, Placement((left, top), (0, 0), scale))
        return scene

    def _put_anywhere(self, scene: Scene, rng: Rng, sizes: tuple[float, float]) -> None:
        source = self._draw("people" if rng.random() < 0.35 else "faces", rng)
        to = tuple(rng.uniform(0.02, 0.98, 2) * self.side)
        self._put(scene, source, _log_uniform(rng, *sizes), to, rng)

    def _put(self, scene: Scene, source: Source, size: float, to: tuple[float, ...], rng: Rng) -> None:
        """The piece with its largest face `size` pixels large and centred at `to`."""
        if len(source.faces) == 0:
            return
        face = max(source.faces, key=lambda row: float(row[2] * row[3]))
        anchor = (float(face[0] + face[2] / 2), float(face[1] + face[3] / 2))
        scale = size / math.sqrt(float(face[2] * face[3]))
        round_edge = rng.random() < 0.35
        feather = rng.uniform(0.0, 0.12) if rng.random() < 0.6 else 0.0
        paste(scene, source, Placement(anchor, (to[0], to[1]), scale, _turn(rng), round_edge, feather))

    def _put_thing(self, scene: Scene, rng: Rng) -> None:
        """A patch of a place, or a plain one, with the edges that pasted faces have, so that an edge gives no face away."""
        source = self._draw("scenes", rng)
        height, width = source.pixels.shape[:2]
        side = int(rng.integers(40, min(height, width)))
        left, top = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        patch = source.pixels[top : top + side, left : left + side]
        moved = source.ignored - np.array([left, top, 0, 0], np.float32)
        if rng.random() < 0.3:
            patch, moved, side = _plain(rng), moved[:0], 64
        to = tuple(rng.uniform(0, 1, 2) * self.side)
        scale = _log_uniform(rng, 15, 160) / side
        feather = rng.uniform(0.0, 0.12) if rng.random() < 0.6 else 0.0
        place = Placement((side / 2, side / 2), (to[0], to[1]), scale, _turn(rng), rng.random() < 0.35, feather)
        paste(scene, Source(patch, source.faces[:0], moved), place)

    def _draw(self, kind: Kind, rng: Rng) -> Source:
        numbers = self.sources.of(kind, self.split)
        chance = self.hard if kind == "scenes" and self.split == "training" else None
        source = self.sources[int(rng.choice(numbers, p=chance))]
        if kind == "scenes":
            source = _as_place(source)
        return mirrored(source) if rng.random() < 0.5 else source


def _see_from_afar(scene: Scene, rng: Rng) -> None:
    """The scene small and in grey, as the detector's glance sees a picture."""
    width, height = scene.size
    factor = rng.uniform(0.3, 0.7)
    small = cv2.resize(scene.pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    left, top = (width - small.shape[1]) // 2, (height - small.shape[0]) // 2
    scene.pixels = np.full((height, width, 3), MID_GREY, np.uint8)
    scene.pixels[top : top + small.shape[0], left : left + small.shape[1]] = small
    for boxes in (scene.faces, scene.ignored):
        boxes *= np.float32(factor)
        for column, start in ((0, left), (1, top)):
            boxes[:, column] += start
            boxes[:, 4 + column :: 2] += start


def _plain(rng: Rng) -> BgrImage:
    """A patch of one colour, of a run of colours, or of noise."""
    detail = int(rng.choice((1, 2, 16)))
    colours = rng.integers(0, 256, (detail, detail, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(colours, (64, 64), interpolation=cv2.INTER_LINEAR), np.uint8)


def _as_place(source: Source) -> Source:
    """Without its faces, which are few and small. What may be a face counts as none where there are no people."""
    unsure = np.vstack([source.ignored, source.faces[:, :4]]) if len(source.faces) else source.ignored[:0]
    return Source(source.pixels, source.faces[:0], unsure)


def _varied(place: Source, rng: Rng) -> Source:
    """A place turned on its side or upside down, or in other colours, if it has no people: there are few places."""
    if len(place.ignored) or rng.random() < 0.5:
        return place
    pixels = np.rot90(place.pixels, int(rng.integers(4)))
    return Source(np.ascontiguousarray(pixels[..., rng.permutation(3)]), place.faces, place.ignored)


def _turn(rng: Rng) -> float:
    """Degrees: a third near upright, half up to 45 either way, some up to a right angle and a little more."""
    kind = rng.random()
    if kind < 0.35:
        return float(rng.normal(0, 8))
    return float(rng.uniform(-1, 1) * (TURN_DEG + 5 if kind < 0.85 else 105))


def _log_uniform(rng: Rng, least: float, most: float) -> float:
    return float(math.exp(rng.uniform(math.log(least), math.log(most))))
