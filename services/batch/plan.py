"""The plan of a job: every source once, in shards. A shard is done when its manifest is there, and never done twice."""

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import pyarrow as pa
import pyarrow.parquet as pq

from services.batch.errors import InputError
from services.batch.sources import Kind, Source
from services.batch.storage import Output

PLAN: Final = "plan"
SHARDS: Final = "shards"
FACES: Final = "faces"
DONE: Final = ".json"
UNREADABLE: Final = ".unreadable"  # done as far as it could be read; the next run tries again
_SCHEMA: Final = pa.schema([("source", pa.string()), ("kind", pa.string()), ("size", pa.int64())])
# Small jobs are cut small enough for every core to have some. Large ones are cut larger, as each shard costs some 40 ms.
_LEAST, _MOST, _OF_THE_WHOLE = 32, 1000, 32


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the job that one worker does in one go: a row group of a plan file."""

    plan: str
    index: int
    bytes: int
    sources: int

    @property
    def id(self) -> str:
        return f"{self.plan}-{self.index:06d}"

    @property
    def manifest(self) -> str:
        return f"{SHARDS}/{self.id}{DONE}"

    @property
    def unreadable(self) -> str:
        return f"{SHARDS}/{self.id}{UNREADABLE}"

    @property
    def table(self) -> str:
        return f"{FACES}/{self.id}.parquet"


def extend_plan(output: Output, sources: Iterable[Source]) -> int:
    """Add those of `sources` that the plan does not have yet; how many were new.

    What was planned stays as it was, so a folder that grew costs only what is new. Memory does not grow with the
    number of sources.
    """
    with _Seen() as seen:
        plans = [name.removesuffix(".parquet") for name in output.names(PLAN) if name.endswith(".parquet")]
        for plan in plans:
            with _opened(output, plan) as file:
                for batch in file.iter_batches(columns=["source"]):
                    for source in batch.column(0).to_pylist():
                        seen.is_new(source)
        new = (source for source in sources if seen.is_new(source.url))
        first = next(new, None)
        if first is None:
            return 0
        with output.written(f"{PLAN}/{len(plans):03d}.parquet") as path, pq.ParquetWriter(path, _SCHEMA) as writer:
            return sum(_write(writer, shard) for shard in _shards(first, new))


def _shards(first: Source, others: Iterable[Source]) -> Iterator[list[Source]]:
    """Photos in shards of growing size; a film or an archive is a shard of its own."""
    photos: list[Source] = []
    total = 0
    for source in _chained(first, others):
        total += 1
        if source.kind != "photo":
            yield [source]
            continue
        photos.append(source)
        if len(photos) >= min(max(total // _OF_THE_WHOLE, _LEAST), _MOST):
            yield photos
            photos = []
    if photos:
        yield photos


def _chained(first: Source, others: Iterable[Source]) -> Iterator[Source]:
    yield first
    yield from others


def _write(file: pq.ParquetWriter, shard: list[Source]) -> int:
    columns = [[s.url for s in shard], [str(s.kind) for s in shard], [s.size for s in shard]]
    file.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], schema=_SCHEMA), len(shard))
    return len(shard)


def shards(output: Output) -> list[Shard]:
    """Every shard of the plan, in order."""
    found = []
    for name in output.names(PLAN):
        if name.endswith(".parquet"):
            plan = name.removesuffix(".parquet")
            with _opened(output, plan) as file:
                for index in range(file.num_row_groups):
                    sizes = file.read_row_group(index, columns=["size"]).column(0).to_pylist()
                    found.append(Shard(plan, index, sum(sizes), len(sizes)))
    return found


def finished(output: Output) -> set[str]:
    """The ids of the shards that are done."""
    return {name.removesuffix(DONE) for name in output.names(SHARDS) if name.endswith(DONE)}


def sources_of(output: Output, shard: Shard) -> list[Source]:
    """The sources of a shard."""
    with _opened(output, shard.plan) as file:
        rows = file.read_row_group(shard.index).to_pylist()
    return [Source(row["source"], cast(Kind, row["kind"]), row["size"]) for row in rows]


@contextmanager
def _opened(output: Output, plan: str) -> Iterator[pq.ParquetFile]:
    with output.open(f"{PLAN}/{plan}.parquet") as file, pq.ParquetFile(file) as table:
        yield table


@dataclass(slots=True)
class _Seen:
    """Names that came before, by their hash, on disk: a hundred million of them need no more memory than ten."""

    _folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="mien-")
    )
    _database: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        self._database = sqlite3.connect(Path(self._folder.name) / "seen.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("CREATE TABLE seen (name BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")
        return self

    def is_new(self, name: str) -> bool:
        """Whether `name` did not come before."""
        assert self._database is not None
        try:
            digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        except UnicodeEncodeError as error:
            raise InputError(f"The name of {name!r} is not UTF-8. Rename the file, or leave its folder out.") from error
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,)).rowcount == 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._database is not None
        self._database.close()
        self._folder.cleanup()
