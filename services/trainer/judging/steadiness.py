"""`steadiness`: how much the answer moves when a photo hardly changes, from the photo to the probabilities."""

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.errors import DataError
from services.trainer.judging.tables import Table
from shared.analysis import Options
from shared.analyzer import Analyzer
from shared.errors import ImageError
from shared.pictures import BgrImage, ImageLimits
from shared.pipeline.crop import framed
from shared.pipeline.decode import Picture, decode
from shared.scores import Change, Steadiness

Alter: TypeAlias = Callable[[BgrImage], BgrImage]
Photos: TypeAlias = Iterable[tuple[str, bytes]]
_SHIFT_PX: Final = 3
_FRAME: Final = 4  # a quarter of the longer side, on each side
_DARKER: Final = 0.5
_JPEG_QUALITY: Final = 40


def steadiness(analyzer: Analyzer, photos: Photos) -> Steadiness:
    """How often the top emotion of the largest face stays under each of CHANGES, and how far the probabilities move.

    Photos that cannot be read, or in which no face is found, are left out. Raises DataError when none remains.
    """
    before: list[npt.NDArray[np.float32]] = []
    after: dict[str, list[npt.NDArray[np.float32] | None]] = {name: [] for name in CHANGES}
    for _, data in photos:
        picture = picture_of(data)
        probabilities = None if picture is None else read_largest(analyzer, picture)
        if picture is None or probabilities is None:
            continue
        before.append(probabilities)
        for name, change in CHANGES.items():
            after[name].append(read_largest(analyzer, change(picture)))
    if not before:
        raise DataError("No face was found in these photos.")
    changes = {name: _compare(before, read) for name, read in after.items()}
    return Steadiness(analyzer.manifest.default_answer, analyzer.detector.name, len(before), changes)


def picture_of(data: bytes) -> BgrImage | None:
    """The pixels (H, W, 3) of an encoded photo; None where it cannot be read."""
    try:
        return decode(data, ImageLimits()).pixels
    except ImageError:
        return None


def read_largest(analyzer: Analyzer, pixels: BgrImage) -> npt.NDArray[np.float32] | None:
    """The seven probabilities of the largest face, None where no face is found."""
    height, width = pixels.shape[:2]
    faces = analyzer.read(Picture(pixels, width, height), Options(max_faces=1)).faces
    return np.array(faces[0].probabilities, np.float32) if faces else None


def moved(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> float:
    """The total-variation distance of two answers: how much probability changed its emotion, 0 to 1."""
    return float(np.abs(before - after).sum() / 2)


def steadiness_table(result: Steadiness) -> Table:
    """A row for each change."""
    rows = [
        (name, f"{change.same:.3f}", f"{change.moved:.3f}", f"{change.lost}", f"{change.photos}")
        for name, change in result.changes.items()
    ]
    return Table(("change", "same emotion", "moved", "face lost", "photos"), tuple(rows))


def as_markdown(result: Steadiness) -> list[str]:
    """The table with what it says."""
    return [
        f"How often `{result.answer}` keeps its top emotion, and how much probability moves to other emotions (mean "
        f"total-variation distance), when a photo changes slightly: {result.photos} photos with a face, the largest face "
        f"of each, through the detector `{result.detector}`.",
        "",
        *steadiness_table(result).as_markdown(),
    ]


def _compare(before: list[npt.NDArray[np.float32]], after: list[npt.NDArray[np.float32] | None]) -> Change:
    pairs = [(one, other) for one, other in zip(before, after, strict=True) if other is not None]
    same = [one.argmax() == other.argmax() for one, other in pairs]
    distances = [moved(one, other) for one, other in pairs]
    mean = (float(np.mean(values)) if values else 0.0 for values in (same, distances))
    return Change(len(pairs), len(before) - len(pairs), round(next(mean), 4), round(next(mean), 4))


def _mirror(image: BgrImage) -> BgrImage:
    return np.ascontiguousarray(image[:, ::-1])


def _shift(image: BgrImage) -> BgrImage:
    """The photo moved right and down, its edge repeated."""
    return np.pad(image, ((_SHIFT_PX, 0), (_SHIFT_PX, 0), (0, 0)), mode="edge")[:-_SHIFT_PX, :-_SHIFT_PX]


def _resize(factor: float) -> Alter:
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC

    def change(image: BgrImage) -> BgrImage:
        return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=interpolation), np.uint8)

    return change


def _frame(image: BgrImage) -> BgrImage:
    return framed(image, max(image.shape[:2]) // _FRAME)


def _turn(degrees: float) -> Alter:
    def change(image: BgrImage) -> BgrImage:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    return change


def _darken(image: BgrImage) -> BgrImage:
    return np.round(image * _DARKER).astype(np.uint8)


def _jpeg(image: BgrImage) -> BgrImage:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


CHANGES: Final[dict[str, Alter]] = {
    "mirror": _mirror,
    f"shift {_SHIFT_PX} px": _shift,
    "half size": _resize(0.5),
    "double size": _resize(2.0),
    "grey frame": _frame,
    "turn 12°": _turn(12),
    "turn 25°": _turn(25),
    "half as bright": _darken,
    f"JPEG {_JPEG_QUALITY}": _jpeg,
}
