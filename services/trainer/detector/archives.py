"""Pictures out of zip archives and folders."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import cv2
import numpy as np

from services.trainer.errors import DataError
from shared.pictures import BgrImage

Progress: TypeAlias = Callable[[Iterable[str]], Iterable[str]]
_IMAGES: Final = (".webp", ".jpg", ".jpeg", ".png")


def pictures(archive: Path, progress: Progress = iter) -> Iterator[BgrImage]:
    """The pictures of a zip in the order of their names. Raises DataError when it or one of them cannot be read."""
    with _opened(archive) as pack:
        names = sorted(name for name in pack.namelist() if name.lower().endswith(_IMAGES))
        for name in progress(names):
            yield _decoded(pack.read(name), f"{name} in {archive}")


def labelled_pictures(archive: Path) -> Iterator[tuple[BgrImage, dict[str, str]]]:
    """The pictures of a zip that the column `file` of its labels.csv names, each with its row. Raises DataError."""
    with _opened(archive) as pack:
        try:
            rows = list(csv.DictReader(io.TextIOWrapper(pack.open("labels.csv"), "utf-8")))
        except KeyError as error:
            raise DataError(f"There is no labels.csv in {archive}.") from error
        for row in rows:
            yield _decoded(pack.read(row["file"]), f"{row['file']} in {archive}"), row


def pictures_of_folder(folder: Path) -> Iterator[BgrImage]:
    """The pictures of a folder in the order of their names. Raises DataError."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _IMAGES:
            yield _decoded(path.read_bytes(), str(path))


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive} cannot be read: {error}.") from error


def _decoded(data: bytes, name: str) -> BgrImage:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{name} is not a picture.")
    return np.asarray(image, np.uint8)
