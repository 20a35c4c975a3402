"""Where labelled faces come from: FER2013's CSV, or folders with one folder per class."""

import bz2
import csv
import gzip
import lzma
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from services.trainer.data.dataset import FACE_SIZE_PX, SPLITS, VOTE_COLUMNS, Split
from services.trainer.errors import DataError
from shared.analysis import Options
from shared.boxes import CropGeometry
from shared.emotions import EMOTIONS
from shared.errors import ImageError
from shared.pictures import GreyImage, ImageLimits
from shared.pipeline.crop import cut_face
from shared.pipeline.decode import Picture, decode
from shared.pipeline.detect import Detector, min_face_share
from shared.pipeline.preprocess import to_face, whole_as_face

# FER2013 numbers its classes in this order, which differs from the model's: map by name, never by number.
CSV_EMOTIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CSV_USAGES: Final[dict[str, Split]] = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
_SERVED: Final = Options()  # as the service looks for faces unless it is asked otherwise
VALIDATION_SHARE: Final = 0.1  # of the training images, where a source has no validation split
_TEXTS: Final = (".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".log")
_OPENERS: Final[dict[str, Callable[..., IO[str]]]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}

Progress: TypeAlias = Callable[[Iterator["Sample"]], Iterable["Sample"]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One row or file of a source; `problem` says why there is no face."""

    source: str
    label: str
    split: str
    face: GreyImage | None
    problem: str = ""


def read_csv(path: Path) -> Iterator[Sample]:
    """Rows of a CSV with FER2013's columns emotion, pixels, Usage (plain, .gz, .bz2 or .xz), one sample each.

    An unreadable row becomes a sample with a problem. Raises DataError when the whole file is unreadable.
    """
    try:
        with _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header = [column.strip() for column in next(rows, [])]
            missing = {"emotion", "pixels", "Usage"} - set(header)
            if missing:
                raise DataError(f"{path} has no columns {', '.join(sorted(missing))}, which FER2013's CSV has.")
            for number, row in enumerate(rows):
                yield _csv_sample(f"row {number}", dict(zip(header, row, strict=False)))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV: {error}.") from error


def _csv_sample(source: str, row: dict[str, str]) -> Sample:
    split = CSV_USAGES.get(row.get("Usage", "").strip(), "")
    try:
        label = dict(enumerate(CSV_EMOTIONS))[int(row["emotion"])]
    except (KeyError, ValueError):
        return Sample(source, "", split, None, f"corrupt: no emotion 0 to 6 in {row.get('emotion', '')[:20]!r}")
    if not split:
        return Sample(source, label, "", None, f"corrupt: unknown Usage {row.get('Usage', '')[:20]!r}")
    try:
        pixels = np.array(row.get("pixels", "").split(), dtype=np.int64)
    except (ValueError, OverflowError):
        return Sample(source, label, split, None, "corrupt: pixels are not whole numbers")
    if len(pixels) != FACE_SIZE_PX**2:
        return Sample(source, label, split, None, f"corrupt: {len(pixels)} pixels instead of {FACE_SIZE_PX**2}")
    if pixels.min() < 0 or pixels.max() > 255:
        return Sample(source, label, split, None, "corrupt: pixels outside 0 to 255")
    return Sample(source, label, split, pixels.astype(np.uint8).reshape(FACE_SIZE_PX, FACE_SIZE_PX))


@dataclass(frozen=True, slots=True)
class FaceFinder:
    """Cuts the largest face out of a photo, with the detector and the crop that serve."""

    detector: Detector
    geometry: CropGeometry

    def face(self, picture: Picture, size_px: int = FACE_SIZE_PX) -> GreyImage | None:
        """The largest face (size_px, size_px) uint8, or None where there is none.

        48 pixels are framed as FER2013 frames them; more show its surroundings at the same scale.
        """
        smallest = min_face_share(_SERVED.min_face, picture.width, picture.height)
        found = self.detector.detect(picture.pixels, _SERVED.min_confidence, smallest)
        if not found:
            return None
        margin = (size_px / FACE_SIZE_PX - 1) / 2
        return to_face(cut_face(picture.pixels, found[0].box, found[0].roll_deg, self.geometry, margin), size_px)


def read_folders(root: Path, finder: FaceFinder | None = None) -> Iterator[Sample]:
    """Images in root/{train,test[,validation]}/<class>/, one sample each, in the order of their paths.

    File names that begin with Training_, PublicTest_ or PrivateTest_ decide the split, as in FER2013's folder form.
    With a `finder`, each photo's largest face is cut out; without one, the picture is the face. A file that is not an
    image becomes a sample with a problem. Raises DataError when the folders have another form.
    """
    present = [split for split in SPLITS if (root / split).is_dir()]
    if "train" not in present or "test" not in present:
        raise DataError(
            f"{root} needs the folders train/ and test/, optionally validation/, with one folder per class in each."
        )
    for split in present:
        for folder in sorted(path for path in (root / split).iterdir() if path.is_dir() and not _is_hidden(path)):
            if folder.name.lower() not in EMOTIONS:
                raise DataError(f"{folder} is not one of the classes {', '.join(EMOTIONS)}.")
            for path in sorted(path for path in folder.iterdir() if not path.is_dir()):
                prefix = path.name.partition("_")[0]
                yield _file_sample(path, root, folder.name.lower(), CSV_USAGES.get(prefix, split), finder)


def _file_sample(path: Path, root: Path, label: str, split: Split, finder: FaceFinder | None) -> Sample:
    source = path.relative_to(root).as_posix()
    if _is_hidden(path) or path.suffix.lower() in _TEXTS:
        return Sample(source, label, split, None, f"ignored: {'hidden files' if _is_hidden(path) else 'texts'}")
    try:
        picture = decode(path.read_bytes(), ImageLimits())
    except FileNotFoundError:
        return Sample(source, label, split, None, "missing: a broken link")
    except (ImageError, OSError) as error:
        return Sample(source, label, split, None, f"corrupt: {error}")
    if finder is not None:
        face = finder.face(picture)
        return Sample(source, label, split, face, "" if face is not None else "no face: the detector found none")
    return Sample(source, label, split, whole_as_face(picture.pixels, FACE_SIZE_PX))


def _is_hidden(path: Path) -> bool:
    """Whether a system keeps it for itself: .DS_Store, ._photo.jpg, Thumbs.db, __MACOSX."""
    return path.name.startswith((".", "__")) or path.name.lower() in ("thumbs.db", "desktop.ini")


def read_source(
    path: Path, progress: Progress = iter, finder: FaceFinder | None = None
) -> tuple[pd.DataFrame, list[GreyImage | None]]:
    """The paper's frame (paper, 1): one row per image with source, label, split and problem; and the faces beside it."""
    samples = list(progress(read_folders(path, finder) if path.is_dir() else read_csv(path)))
    columns = ["source", "label", "split", "problem"]
    rows = [(sample.source, sample.label, sample.split, sample.problem) for sample in samples]
    return pd.DataFrame(rows, columns=columns), [sample.face for sample in samples]


def hold_out_validation(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The frame with a tenth of each training class moved to validation, if the source has no such split."""
    if (frame["split"] == "validation").any():
        return frame
    train = frame[(frame["split"] == "train") & (frame["problem"] == "")]
    held_out = train.groupby("label").sample(frac=VALIDATION_SHARE, random_state=seed).index
    frame = frame.copy()
    frame.loc[held_out, "split"] = "validation"
    return frame


def read_votes(path: Path, frame: pd.DataFrame) -> npt.NDArray[np.uint8]:
    """FER+ votes (rows, 10) uint8, one row per row of FER2013's CSV, **in row order**.

    The number in the file's "Image name" is not the row. Raises DataError when the file does not match the CSV's `frame`.
    """
    try:
        table = pd.read_csv(path)
        votes, usage = table[list(VOTE_COLUMNS)].to_numpy(np.uint8), table["Usage"].map(CSV_USAGES)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not FER+'s fer2013new.csv: {error}.") from error
    if len(votes) != len(frame):
        raise DataError(
            f"{path} has {len(votes)} rows, the source has {len(frame)}; FER+ has one row per row of fer2013.csv."
        )
    readable = frame["problem"] == ""
    others = int((usage[readable] != frame.loc[readable, "split"]).sum())
    if others:
        raise DataError(
            f"{path} has a different Usage from the source in {others} rows: its rows are in another order."
        )
    return votes
