"""Photos of people, in a folder or a .zip, and the table that says who is in them."""

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.trainer.errors import DataError

_KINDS: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})


def read_photos(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name (its path within the source) and bytes of each photo, in the order of the names.

    Raises DataError when `source` is missing or is neither a folder nor a whole .zip.
    """
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in _KINDS and path.is_file():
                yield path.relative_to(source).as_posix(), path.read_bytes()
        return
    try:
        with zipfile.ZipFile(source) as zipped:
            for name in sorted(zipped.namelist()):
                if Path(name).suffix.lower() in _KINDS:
                    yield name, zipped.read(name)
    except FileNotFoundError as error:
        raise DataError(f"There is no folder or archive {source}.") from error
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"{source} is damaged, or no .zip: {error}.") from error


def read_table(source: Path, table: str) -> dict[str, dict[str, str]]:
    """The other columns of each row of a CSV, by its column `file`.

    `table` is a file, or a name within the folder or .zip `source`. Raises DataError when it cannot be read, or when it
    has no column `file`.
    """
    text = _text(source, table)
    rows = csv.DictReader(io.StringIO(text))
    if "file" not in (rows.fieldnames or ()):
        raise DataError(f"{table} has no column 'file'; its columns are {', '.join(rows.fieldnames or ()) or 'none'}.")
    return {row["file"]: {name: value for name, value in row.items() if name and name != "file"} for row in rows}


def _text(source: Path, table: str) -> str:
    try:
        for path in (Path(table), source / table):
            if path.is_file():
                return path.read_text(encoding="utf-8-sig")
        if source.is_file():
            with zipfile.ZipFile(source) as zipped:
                return zipped.read(table).decode("utf-8-sig")
    except (KeyError, zipfile.BadZipFile, OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{table} cannot be read from {source}: {error}.") from error
    raise DataError(f"There is no {table}, neither by itself nor in {source}.")
