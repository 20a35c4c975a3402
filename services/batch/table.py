"""The table: what each column means, and rows written as Parquet a group at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from services.batch.smoothing import Smoothed
from shared.analysis import Analysis, Face
from shared.boxes import POINTS
from shared.emotions import EMOTIONS

_ROWS_A_GROUP: Final = 4096  # of Parquet, and so the most that wait in memory


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table; `range` has the unit where there is one."""

    name: str
    type: pa.DataType
    range: str
    meaning: str


COLUMNS: Final = (
    Column("source", pa.string(), "path or URL", "The file."),
    Column("member", pa.string(), "name, or null", "The file inside a tar file."),
    Column("frame", pa.int64(), "0 and up, or null", "Number of a film's frame, counting every frame of the film."),
    Column("time_s", pa.float64(), "seconds, 0 and up, or null", "The frame's own presentation time."),
    Column("width", pa.int32(), "pixels", "Width of the picture as displayed."),
    Column("height", pa.int32(), "pixels", "Height of the picture as displayed."),
    Column("faces", pa.int32(), "0 and up", "Faces in this picture. With 0 the picture has one row without a face."),
    Column("face", pa.int32(), "0 and up", "Which of them this row is; 0 is the largest."),
    Column("face_id", pa.int64(), "1 and up, or null", "Identity in a film: the same face has the same id throughout."),
    Column("box_x", pa.int32(), "pixels", "Left edge of the face's box, inside the picture."),
    Column("box_y", pa.int32(), "pixels", "Top edge of the box."),
    Column("box_width", pa.int32(), "pixels, 1 and up", "Width of the box."),
    Column("box_height", pa.int32(), "pixels, 1 and up", "Height of the box."),
    *(
        Column(f"{point}_{axis}", pa.float32(), "pixels, or null", f"Landmark, {axis}, where the detector gives landmarks.")
        for point in POINTS
        for axis in "xy"
    ),
    Column("roll_deg", pa.float32(), "degrees, or null", "How far the head is turned in the picture, clockwise."),
    Column("confidence", pa.float32(), "0 to 1", "The detector's; it ranks within a detector and is no probability."),
    Column("emotion", pa.string(), ", ".join(EMOTIONS), "The likeliest: of the smoothed probabilities in a film."),
    *(Column(name, pa.float32(), "0 to 1; the seven sum to 1", "Probability in this picture alone.") for name in EMOTIONS),
    *(
        Column(f"smoothed_{name}", pa.float32(), "0 to 1, or null; the seven sum to 1", "In a film: probability over the window.")
        for name in EMOTIONS
    ),
    Column("model", pa.string(), "name", "The model that answered."),
    Column("model_version", pa.string(), "beginning of a hash", "Its version."),
    Column("answer", pa.string(), "people or labels", "Whose view of a face the probabilities are."),
    Column("detector", pa.string(), "name", "The face detector."),
    Column("detector_version", pa.string(), "version", "Its version."),
    Column("error", pa.string(), "code, or null", "Why this file, or the rest of this film, could not be read."),
    Column("detail", pa.string(), "a sentence, or null", "The same in words."),
)  # fmt: skip
SCHEMA: Final = pa.schema(
    [pa.field(c.name, c.type, metadata={"range": c.range, "meaning": c.meaning}) for c in COLUMNS]
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture comes from."""

    source: str
    member: str | None = None


def photo_rows(place: Place, analysis: Analysis) -> list[dict[str, Any]]:
    """The rows of a photo: one for each face, or one without a face."""
    picture = _of(place) | {"width": analysis.width, "height": analysis.height, "faces": len(analysis.faces)}
    if not analysis.faces:
        return [picture]
    return [picture | {"face": index} | _face(face) for index, face in enumerate(analysis.faces)]


def frame_rows(place: Place, smoothed: Smoothed) -> list[dict[str, Any]]:
    """The rows of a frame: one for each face, or one without a face."""
    moment = smoothed.moment
    picture = _of(place) | {
        "frame": moment.number, "time_s": moment.time_s, "width": moment.width, "height": moment.height,
        "faces": len(moment.faces),
    }  # fmt: skip
    if not moment.faces:
        return [picture]
    rows = []
    for index, (tracked, steady) in enumerate(zip(moment.faces, smoothed.probabilities, strict=True)):
        row = picture | {"face": index, "face_id": tracked.id} | _face(tracked.face)
        row |= {f"smoothed_{name}": value for name, value in zip(EMOTIONS, steady, strict=True)}
        row["emotion"] = EMOTIONS[max(range(len(EMOTIONS)), key=steady.__getitem__)]
        rows.append(row)
    return rows


def error_row(place: Place, code: str, detail: str) -> dict[str, Any]:
    """The row of a file that could not be read, or not to its end."""
    return _of(place) | {"error": code, "detail": detail}


def _of(place: Place) -> dict[str, Any]:
    return {"source": place.source, "member": place.member}


def _face(face: Face) -> dict[str, Any]:
    row: dict[str, Any] = {
        "box_x": face.box.x, "box_y": face.box.y, "box_width": face.box.width, "box_height": face.box.height,
        "confidence": face.confidence, "emotion": face.emotion,
    }  # fmt: skip
    for point, place in zip(POINTS, face.landmarks or (), strict=False):
        row |= {f"{point}_x": place[0], f"{point}_y": place[1]}
    row["roll_deg"] = face.roll_deg
    return row | dict(zip(EMOTIONS, face.probabilities, strict=True))


@dataclass(slots=True)
class RowWriter:
    """Writes rows to a Parquet file at `path`; no more than one group of them is held."""

    path: Path
    same: dict[str, Any]  # columns that every row shares: model and detector
    written: int = 0
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _file: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        self._file = pq.ParquetWriter(self.path, SCHEMA, compression="zstd")
        return self

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append `rows`. Raises OSError as the file system does."""
        self._rows.extend(row | self.same for row in rows)
        if len(self._rows) >= _ROWS_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        assert self._file is not None
        self._file.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
        self.written += len(self._rows)
        self._rows.clear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._file is not None
        if kind is None:
            self._flush()
        self._file.close()
