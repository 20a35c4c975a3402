"""Local folders and object stores alike, by fsspec: where inputs are read and results are written."""

import fcntl
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from services.batch.errors import BatchError, InputError, OutputError, PayloadTooLarge, UnreadableFile
from shared.atomic import atomic_file

# A PNG of 50 million pixels has some 80 MB; eight are fetched ahead, so what is larger would fill a worker's memory.
MAX_PHOTO_BYTES: Final = 100_000_000
_TRIES: Final = 3
LOCK: Final = ".lock"


def is_remote(url: str) -> bool:
    """Whether `url` names an object store or a web server and not a path of this machine."""
    return "://" in url and not url.startswith("file://")


def file_system(url: str, error: type[BatchError] = InputError) -> tuple[Any, str]:
    """The fsspec file system of `url` and the path in it. Raises `error` for a scheme that is unavailable."""
    scheme = url.partition("://")[0]
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as reason:
        package = getattr(reason.__cause__, "name", None) or reason.name or "of fsspec for it"
        raise error(f"{scheme}:// needs the package {package}: pip install {package}.") from reason
    except ValueError as reason:
        raise error(f"{url}: fsspec has no file system '{scheme}'; is the scheme spelled right?") from reason
    except Exception as reason:  # each file system has its own, for credentials that are missing and the like
        raise error(f"{url} cannot be opened: {reason}.") from reason
    return fs, str(path)


def open_input(url: str) -> IO[bytes]:
    """`url` for reading, seekable. Raises UnreadableFile."""
    try:
        if not is_remote(url):
            return open(url.removeprefix("file://"), "rb")
        fs, path = file_system(url)
        opened: IO[bytes] = fs.open(path, "rb")
    except Exception as error:  # fsspec's file systems raise what their clients raise
        raise UnreadableFile(_reason(url, error)) from error
    return opened


def read_photo(url: str) -> bytes:
    """The bytes of a photo; a store that fails is asked three times. Raises UnreadableFile or PayloadTooLarge."""
    for attempt in range(_TRIES if is_remote(url) else 1):
        try:
            with open_input(url) as file:
                return read_bounded(file, url)
        except PayloadTooLarge:
            raise
        except Exception as error:  # as above
            reason = error
            if isinstance(error.__cause__, FileNotFoundError) or attempt == _TRIES - 1:
                break
    raise reason if isinstance(reason, UnreadableFile) else UnreadableFile(_reason(url, reason)) from reason


def read_bounded(file: IO[bytes], name: str) -> bytes:
    """All of `file`. Raises PayloadTooLarge when that is more than a photo may have."""
    data = file.read(MAX_PHOTO_BYTES + 1)
    if len(data) > MAX_PHOTO_BYTES:
        raise PayloadTooLarge(f"{name} is larger than {MAX_PHOTO_BYTES:,} bytes.")
    return data


def _reason(url: str, error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return f"{url} cannot be read: {said}."


@dataclass(frozen=True, slots=True)
class Output:
    """The folder of a job, local or in an object store. Files in it are there whole or not at all."""

    url: str
    fs: Any = field(repr=False)
    path: str

    @classmethod
    def at(cls, url: str) -> "Output":
        """The output at `url`, which need not exist yet. Raises OutputError for a scheme that is unavailable."""
        fs, path = file_system(url if is_remote(url) else str(Path(url.removeprefix("file://")).resolve()), OutputError)
        return cls(fs.unstrip_protocol(path) if is_remote(url) else path, fs, path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Clients of object stores do not travel between processes; each opens its own."""
        return Output.at, (self.url,)

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(f"{self.path}/{name}"))

    def names(self, folder: str) -> list[str]:
        """The names of the files in `folder`, sorted; none when there is no such folder."""
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(f"{self.path}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def open(self, name: str) -> IO[bytes]:
        """`name` for reading, seekable. Raises FileNotFoundError."""
        opened: IO[bytes] = self.fs.open(f"{self.path}/{name}", "rb")
        return opened

    def remove(self, name: str) -> None:
        """Remove `name` where it exists."""
        if self.exists(name):
            self.fs.rm_file(f"{self.path}/{name}")

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """A local path to write to; it becomes `name` only when the block ends without an error.

        Raises OSError as the file system does.
        """
        if self.is_local:
            with atomic_file(Path(self.path) / name) as beside:
                yield beside
            return
        with tempfile.TemporaryDirectory(prefix="mien-") as scratch:
            local = Path(scratch) / Path(name).name
            yield local
            self.fs.makedirs(f"{self.path}/{name}".rpartition("/")[0], exist_ok=True)
            self.fs.put_file(str(local), f"{self.path}/{name}")

    def read_json(self, name: str) -> Any:
        """What `name` holds. Raises FileNotFoundError, or ValueError when it is no JSON."""
        with self.open(name) as file:
            return json.load(file)

    def write_json(self, name: str, content: Any) -> None:
        """Write `content` as `name`, whole or not at all."""
        with self.written(name) as path:
            path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of a local output. Raises OutputError while one is writing there."""
        if not self.is_local:
            yield  # an object store shows no half-written files, and has no locks
            return
        with (Path(self.path) / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OutputError(
                    f"Another run is writing to {self.url}. Wait for it, or choose another --out."
                ) from error
            yield

    def tidy(self, folders: Sequence[str]) -> None:
        """Remove from `folders` what a run that was killed was writing."""
        for folder in folders if self.is_local else ():
            for left in (Path(self.path) / folder).glob(".*"):
                left.unlink(missing_ok=True)
