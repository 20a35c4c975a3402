"""Local folders and object stores alike, by fsspec: where inputs are read and results are written."""

import errno
import fcntl
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from services.batch.errors import (
    BatchError,
    InputError,
    OutputError,
    PayloadTooLarge,
    SourceError,
    UnreachableFile,
    UnreadableFile,
)
from shared.atomic import atomic_file
from shared.errors import MienError

# A PNG of 50 million pixels has some 80 MB; eight are fetched ahead, so what is larger would fill a worker's memory.
MAX_PHOTO_BYTES: Final = 100_000_000
_TRIES: Final = 3
LOCK: Final = ".lock"
CHECK_STORE: Final = "Check the name, the store's endpoint and the credentials."


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


class _Input(io.RawIOBase):
    """A file being read. Raises UnreadableFile, whatever the client of a store raises."""

    def __init__(self, url: str, file: IO[bytes]) -> None:
        self._url, self._file = url, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def read(self, size: int = -1) -> bytes:
        with _reading(self._url):
            return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _reading(self._url):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # the file systems of fsspec raise what their clients raise
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        lasting = not is_remote(url) or isinstance(error, FileNotFoundError)
        raise (UnreadableFile if lasting else UnreachableFile)(f"{url} cannot be read: {said.rstrip('.')}.") from error


def open_input(url: str) -> IO[bytes]:
    """`url` for reading, seekable. It raises UnreadableFile, as this does."""
    with _reading(url):
        if not is_remote(url):
            return cast(IO[bytes], _Input(url, open(url.removeprefix("file://"), "rb")))
        fs, path = file_system(url)
        return cast(IO[bytes], _Input(url, fs.open(path, "rb")))


def read_photo(url: str) -> bytes:
    """The bytes of a photo; a store that fails is asked three times. Raises UnreadableFile or PayloadTooLarge."""
    # To open a file in a store takes a request of its own, for its size. Web servers may answer with more than was asked.
    at_once = is_remote(url) and not url.startswith("http")
    for _ in range(_TRIES - 1):
        try:
            return _in_one_request(url) if at_once else _read_photo(url)
        except UnreachableFile:
            at_once = False  # nor does a store give a part of an empty file
    return _read_photo(url)


def _in_one_request(url: str) -> bytes:
    with _reading(url):
        fs, path = file_system(url)
        return _bounded(fs.cat_file(path, end=MAX_PHOTO_BYTES + 1), url)


def _read_photo(url: str) -> bytes:
    with open_input(url) as file:
        return read_bounded(file, url)


def read_bounded(file: IO[bytes], name: str) -> bytes:
    """All of `file`. Raises PayloadTooLarge when that is more than a photo may have."""
    return _bounded(file.read(MAX_PHOTO_BYTES + 1), name)


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_PHOTO_BYTES:
        raise PayloadTooLarge(f"{name} is larger than {MAX_PHOTO_BYTES:,} bytes.")
    return data


@contextmanager
def _as_os_error() -> Iterator[None]:
    """What the client of a store raises, as the kind of error that a disk's faults have."""
    try:
        yield
    except (OSError, MienError):
        raise
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from error


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

    def fault(self, error: OSError) -> OutputError:
        """`error` of this output, and what to do about it."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "Make room, then repeat the command." if full else "Choose another --out."
        said = str(error.strerror or error).rstrip(".")
        return OutputError(f"{self.url} cannot be written: {said}. {fix if self.is_local else CHECK_STORE}")

    def exists(self, name: str) -> bool:
        """Whether there is a file `name`. Raises OSError, as the others do."""
        with _as_os_error():
            return bool(self.fs.exists(f"{self.path}/{name}"))

    def names(self, folder: str) -> list[str]:
        """The names of the files in `folder`, sorted; none when there is no such folder."""
        with _as_os_error():
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(f"{self.path}/{folder}", detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """`name` for reading, seekable, while the block lasts."""
        with _as_os_error(), self.fs.open(f"{self.path}/{name}", "rb") as file:
            yield file

    def remove(self, name: str) -> None:
        """Remove `name` where it exists."""
        if self.exists(name):
            with _as_os_error():
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
            with _as_os_error():
                # It makes folders where a store has them; makedirs would make a bucket, too.
                self.fs.put_file(str(local), f"{self.path}/{name}")

    def read_json(self, name: str) -> Any:
        """What `name` holds. Raises ValueError when that is no JSON."""
        with self.open(name) as file:
            text = file.read()
        return json.loads(text)

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
