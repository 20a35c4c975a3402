"""Photos and their bytes; those of an object store are fetched while earlier ones are scored."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from typing import Final

from services.batch.errors import SourceError
from services.batch.sources import Source
from services.batch.storage import is_remote, read_photo

_AT_ONCE: Final = 8  # a request takes some 50 ms, a photo some 10


def read_ahead(sources: Iterable[Source]) -> Iterator[tuple[Source, bytes | SourceError]]:
    """Each source with its bytes, or with the error that stands in their way, in order; few are held at once."""
    for remote, some in groupby(sources, lambda source: is_remote(source.url)):
        # A local file is there sooner than a thread that would read it.
        yield from (_ahead if remote else _at_once)(some)


def _ahead(sources: Iterator[Source]) -> Iterator[tuple[Source, bytes | SourceError]]:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mien-fetch") as pool:
        waiting: deque[tuple[Source, Future[bytes | SourceError]]] = deque()
        for source in islice(sources, _AT_ONCE):
            waiting.append((source, pool.submit(_read, source)))
        while waiting:
            source, future = waiting.popleft()
            for following in islice(sources, 1):
                waiting.append((following, pool.submit(_read, following)))
            yield source, future.result()


def _at_once(sources: Iterator[Source]) -> Iterator[tuple[Source, bytes | SourceError]]:
    for source in sources:
        yield source, _read(source)


def _read(source: Source) -> bytes | SourceError:
    try:
        return read_photo(source.url)
    except SourceError as error:
        return error
