"""One shard the whole way: its sources in; a table, a manifest and perhaps crops out."""

import resource
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from lzma import LZMAError
from typing import IO, Any, Final, TypeAlias

from services.batch.crops import CropWriter, open_crops
from services.batch.errors import (
    PayloadTooLarge,
    UndecodableVideo,
    UnreachableFile,
    UnreadableArchive,
    UnreadableFile,
    VideoCutShort,
    code_of,
)
from services.batch.films import frames
from services.batch.job import Job, stamp
from services.batch.plan import Shard, sources_of
from services.batch.reading_ahead import read_ahead
from services.batch.smoothing import CentredWindow, Moment
from services.batch.sources import Source, kind_of
from services.batch.storage import Output, open_input, read_bounded
from services.batch.table import Place, RowWriter, error_row, frame_rows, photo_rows
from services.batch.tally import Tally, Timeline
from shared.analysis import Analysis
from shared.analyzer import Analyzer
from shared.errors import MienError
from shared.pipeline.decode import Picture, decode
from shared.tracking import Tracker

# The stream's tracker forgets a face that it has not seen for a little while. Where frames are taken more rarely than
# this, its clock is slowed to one such step a frame, so that an identity may still miss a frame.
_TRACKED_STEP_S: Final = 0.3

Report: TypeAlias = Callable[[float, int], None]  # share of the shard that is done, pictures so far


@dataclass(slots=True)
class Scorer:
    """Scores shards one after another, with one analyzer."""

    job: Job
    output: Output
    analyzer: Analyzer
    _stamp: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._stamp = stamp(self.job, self.analyzer)

    def score(self, shard: Shard, report: Report = lambda *_: None) -> None:
        """Write the shard's table and then its manifest, which makes it done.

        All are there whole or not at all, under names that depend on the shard alone: a shard that is scored twice,
        as after a node was lost, is there once. Raises OutputError when the output cannot be written.
        """
        started, cpu_s = time.monotonic(), time.process_time()
        try:
            sources = sources_of(self.output, shard)
            with ExitStack() as stack:
                table = stack.enter_context(self.output.written(shard.table))
                rows = stack.enter_context(RowWriter(table, self._stamp))
                crops = open_crops(stack, self.output, shard) if self.job.crops else None
                run = _Run(self.job, self.analyzer, rows, crops, report)
                run.all(sources)
            manifest = run.tally.as_json() | {
                "sources": len(sources), "rows": rows.written, "seconds": round(time.monotonic() - started, 3),
                "cpu_seconds": round(time.process_time() - cpu_s, 3), "peak_memory_mb": _peak_memory_mb(),
            }  # fmt: skip
            self.output.write_json(shard.unreadable if run.tally.again else shard.manifest, manifest)
            if not run.tally.again:
                self.output.remove(shard.unreadable)
        except OSError as error:  # what goes wrong with a source is an error of ours by now
            raise self.output.fault(error) from error


@dataclass(slots=True)
class _Run:
    """One shard being scored."""

    job: Job
    analyzer: Analyzer
    rows: RowWriter
    crops: CropWriter | None
    report: Report
    tally: Tally = field(default_factory=Tally)

    def all(self, sources: list[Source]) -> None:
        photos = [source for source in sources if source.kind == "photo"]
        for number, (source, data) in enumerate(read_ahead(photos), 1):
            self._photo(Place(source.url), data)
            self.report(number / len(sources), self.tally.pictures)
        for source in sources:
            if source.kind == "film":
                self._film_file(source)
            elif source.kind == "archive":
                self._archive(source)

    def _add(self, rows: list[dict[str, Any]]) -> None:
        self.rows.add(rows)
        self.tally.add(rows)

    def _fault(self, place: Place, error: Exception) -> None:
        detail = str(error) if isinstance(error, MienError) else f"This is a fault of ours: {error!r}."
        self.tally.again += isinstance(error, UnreachableFile | UnreadableArchive)
        self._add([error_row(place, code_of(error), detail)])

    def _photo(self, place: Place, data: bytes | Exception) -> None:
        if isinstance(data, Exception):
            self._fault(place, data)
            return
        try:
            picture = decode(data, self.analyzer.limits)
            analysis = self._read(place, picture)
        except OSError:  # the crops cannot be written
            raise
        except Exception as error:  # whatever a broken file leads the libraries to, the others must be scored
            self._fault(place, error)
            return
        for face in analysis.faces:
            self.tally.surest.offer(picture, place, face, None, None)
        self._add(photo_rows(place, analysis))

    def _read(self, place: Place, picture: Picture) -> Analysis:
        analysis = self.analyzer.read(picture, self.job.options)
        if self.crops:
            self.crops.add(place.source, analysis.faces)
        return analysis

    def _film_file(self, source: Source) -> None:
        try:
            with open_input(source.url) as file:
                self._film(Place(source.url), file)
        except UnreadableFile as error:
            self._fault(Place(source.url), error)

    def _film(self, place: Place, file: IO[bytes]) -> None:
        """Every wanted frame: read, tracked over the whole film, smoothed once its near future is known."""
        timeline, window = Timeline(), CentredWindow(self.job.smoothing_s)
        try:
            for moment, progress in self._moments(place, file):
                for ready in window.add(moment):
                    self._frame(place, ready, timeline)
                self.report(progress, self.tally.pictures)
        except (UndecodableVideo, VideoCutShort) as error:
            fault: Exception | None = error
        except OSError:  # the table cannot be written
            raise
        except Exception as error:  # as for photos
            fault = error
        else:
            fault = None
        for ready in window.rest():
            self._frame(place, ready, timeline)
        if fault:
            self._fault(place, fault)
        if timeline.frames:
            self.tally.films[place.member or place.source] = timeline.as_json()

    def _moments(self, place: Place, file: IO[bytes]) -> Iterator[tuple[Moment, float]]:
        tracker = Tracker(half_life_s=0)
        slowed = min(1.0, _TRACKED_STEP_S / self.job.every_s) if self.job.every_s else 1.0
        for frame in frames(file, self.job.span, self.analyzer.limits):
            analysis = self._read(place, frame.picture)
            tracked = tracker.update(analysis.faces, frame.time_s * slowed)
            for seen in tracked:
                self.tally.surest.offer(frame.picture, place, seen.face, seen.id, frame.time_s)
            yield Moment(frame.number, frame.time_s, analysis.width, analysis.height, tracked), frame.progress

    def _frame(self, place: Place, ready: Any, timeline: Timeline) -> None:
        self._add(frame_rows(place, ready))
        faces = [(face.id, steady) for face, steady in zip(ready.moment.faces, ready.probabilities, strict=True)]
        timeline.add(ready.moment.time_s, faces)

    def _archive(self, source: Source) -> None:
        """Every photo and film of a tar file, in its order, read once from front to back."""
        try:
            with open_input(source.url) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
                for member in archive:
                    kind = kind_of(member.name) if member.isfile() else None
                    content = archive.extractfile(member) if kind in ("photo", "film") else None
                    if content is not None:
                        self._member(Place(source.url, member.name), content, film=kind == "film")
                    self.report(file.tell() / source.size if source.size else 0.0, self.tally.pictures)
        except (tarfile.TarError, EOFError, zlib.error, LZMAError, UnreadableFile) as error:
            said = "" if isinstance(error, UnreadableFile) else f"{source.url} is no tar file, or is cut short: "
            self._fault(Place(source.url), UnreadableArchive(f"{said}{error}"))

    def _member(self, place: Place, content: IO[bytes], film: bool) -> None:
        if not film:
            self._photo(place, _bytes_of(content, place.member or place.source))
            return
        # Films are read back and forth, which a stream does not allow.
        with tempfile.TemporaryFile(prefix="mien-") as copy:
            while piece := content.read(1 << 20):
                copy.write(piece)
            copy.seek(0)
            self._film(place, copy)


def _bytes_of(content: IO[bytes], name: str) -> bytes | PayloadTooLarge:
    try:
        return read_bounded(content, name)
    except PayloadTooLarge as error:
        return error


def _peak_memory_mb() -> float:
    """The most memory that this process has held, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
