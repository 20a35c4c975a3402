"""Photos of an object store, fetched while earlier ones are scored."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final

from services.batch.errors import SourceError
from services.batch.sources import Source
from services.batch.storage import read_photo

_AT_ONCE: Final = 8  # a request takes some 50 ms, a photo some 10


def read_ahead(sources: Iterable[Source]) -> Iterator[tuple[Source, bytes | SourceError]]:
    """Each source with its bytes, or with the error that stands in their way, in order; few are held at once."""
    sources = iter(sources)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mien-fetch") as pool:
        waiting: deque[tuple[Source, Future[bytes | SourceError]]] = deque()
        for source in islice(sources, _AT_ONCE):
            waiting.append((source, pool.submit(_read, source)))
        while waiting:
            source, future = waiting.popleft()
            for following in islice(sources, 1):
                waiting.append((following, pool.submit(_read, following)))
            yield source, future.result()


def _read(source: Source) -> bytes | SourceError:
    try:
        return read_photo(source.url)
    except SourceError as error:
        return error
