"""What the user names becomes a stream of photos, films and archives, never held in memory as a whole."""

import csv
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from services.batch.errors import InputError
from services.batch.storage import CHECK_STORE, file_system, is_remote

Kind: TypeAlias = Literal["photo", "film", "archive"]

_ENDINGS: Final[dict[Kind, tuple[str, ...]]] = {
    "photo": (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"),
    "film": (
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv",
        ".3gp", ".ogv", ".mjpeg", ".mjpg",
    ),
    "archive": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"),
}  # fmt: skip
_LISTS: Final = (".csv", ".tsv", ".parquet", ".txt")
_COLUMNS: Final = ("source", "path", "url", "file", "filename", "image", "video")


@dataclass(frozen=True, slots=True)
class Source:
    """One file to score. `size` in bytes, 0 where the listing does not give it."""

    url: str  # an absolute path, or a URL
    kind: Kind
    size: int = 0


def kind_of(name: str) -> Kind | None:
    """What a file is by the ending of its name; None for one that is nothing of ours."""
    lower = name.lower()
    return next((kind for kind, endings in _ENDINGS.items() if lower.endswith(endings)), None)


def list_sources(inputs: Sequence[str], column: str | None = None) -> Iterator[Source]:
    """Every photo, film and archive that `inputs` name, in a fixed order; one that is named twice comes twice.

    An input is a folder, a file, a pattern with * or ?, or a list (.csv, .tsv, .parquet, .txt) of which `column`, or
    the first of our own names, holds paths or URLs. Hidden files, and in folders other kinds of files, are passed
    over. Raises InputError for an input that is not there or cannot be listed.
    """
    for name in inputs:
        try:
            yield from _remote(name, column) if is_remote(name) else _local(name.removeprefix("file://"), column)
        except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
            raise _unlisted(name, error) from error


def _unlisted(name: str, error: Exception) -> InputError:
    fix = f" {CHECK_STORE}" if is_remote(name) else ""
    return InputError(f"{name} cannot be listed: {str(error).rstrip('.')}.{fix}")


def _local(name: str, column: str | None) -> Iterator[Source]:
    path = Path(os.path.abspath(name))
    if path.is_dir():
        yield from _folder(str(path))
    elif path.exists():
        size = path.stat().st_size
        yield from _file(str(path), size, column)
    elif glob.has_magic(name):
        for found in sorted(glob.iglob(str(path), recursive=True)):
            if os.path.isfile(found):
                yield from _known(found, os.path.getsize(found))
    else:
        raise InputError(f"There is no file or folder {name}.")


def _folder(path: str) -> Iterator[Source]:
    with os.scandir(path) as entries:
        inside = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            yield from _folder(entry.path)
        elif kind := kind_of(entry.name):  # a link that leads nowhere becomes a row that says so
            yield Source(entry.path, kind, entry.stat().st_size if entry.is_file() else 0)


def _remote(name: str, column: str | None) -> Iterator[Source]:
    fs, path = file_system(name)
    try:
        if glob.has_magic(path):
            for found in sorted(fs.glob(path)):
                yield from _known(fs.unstrip_protocol(found), 0)
        elif fs.isdir(path):
            yield from _remote_folder(fs, path)
        elif fs.exists(path):
            yield from _file(name, int(fs.info(path).get("size") or 0), column)
        else:
            raise InputError(f"There is nothing at {name}. {CHECK_STORE}")
    except InputError:
        raise
    except Exception as error:  # fsspec's file systems raise what their clients raise
        raise _unlisted(name, error) from error


def _remote_folder(fs: Any, path: str) -> Iterator[Source]:
    for _, _, files in fs.walk(path, detail=True):
        for name, info in sorted(files.items()):
            if not name.startswith("."):
                yield from _known(fs.unstrip_protocol(info["name"]), int(info.get("size") or 0))


def _file(url: str, size: int, column: str | None) -> Iterator[Source]:
    """A file that was named itself: a list, or a source whatever its ending."""
    if url.lower().endswith(_LISTS):
        yield from (_entry(url, entry) for entry in _entries(url, column))
    else:
        yield Source(url, kind_of(url) or "photo", size)


def _known(url: str, size: int) -> Iterator[Source]:
    if not PurePosixPath(url).name.startswith(".") and (kind := kind_of(url)):
        yield Source(url, kind, size)


def _entry(of: str, entry: str) -> Source:
    """A path of a list; relative ones begin where the list is."""
    if not is_remote(entry) and not os.path.isabs(entry):
        entry = f"{of.rpartition('/')[0]}/{entry}"
    return Source(entry if is_remote(entry) else os.path.normpath(entry), kind_of(entry) or "photo")


def _entries(url: str, column: str | None) -> Iterator[str]:
    fs, path = file_system(url)
    if url.lower().endswith(".parquet"):
        with fs.open(path, "rb") as file:
            table = pq.ParquetFile(file)
            chosen = _column(url, table.schema_arrow.names, column)
            for batch in table.iter_batches(columns=[chosen]):
                yield from (str(value) for value in batch.column(0).to_pylist() if value)
        return
    with fs.open(path, "r", encoding="utf-8-sig", newline="") as file:
        if url.lower().endswith(".txt"):
            yield from (line.strip() for line in file if line.strip())
            return
        rows = csv.reader(file, delimiter="\t" if url.lower().endswith(".tsv") else ",")
        header = next(rows, [])
        place = header.index(_column(url, header, column))
        yield from (row[place].strip() for row in rows if len(row) > place and row[place].strip())


def _column(url: str, header: Sequence[str], asked: str | None) -> str:
    if found := next((name for name in ([asked] if asked else _COLUMNS) if name in header), None):
        return found
    wanted = f"column '{asked}'" if asked else f"column named {', '.join(_COLUMNS)}"
    raise InputError(f"{url} has no {wanted}; it has {', '.join(header) or 'none'}. Name the paths' with --column.")
