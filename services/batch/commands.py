"""`score`: an archive in, a table, a summary and perhaps crops out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from services.batch.crops import CROPS, FACES_FILE, VOTES_FILE, join_crops
from services.batch.engine import Engine, ray_running
from services.batch.errors import InputError
from services.batch.job import Job, claim, open_reader, stamp
from services.batch.plan import FACES, PLAN, SHARDS, Shard, extend_plan, finished, shards
from services.batch.progress import Bar
from services.batch.report import Summary, summarize, write_report
from services.batch.sources import list_sources
from services.batch.storage import Output
from services.batch.table import SCHEMA

_CSV = "faces.csv"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for beside the job itself."""

    inputs: Sequence[str]
    out: str
    column: str | None = None
    resume: bool = False
    csv: bool = False
    address: str | None = None
    cpus: int | None = None


def score(job: Job, request: Request) -> Summary:
    """Score every source of `request.inputs` that is not scored yet; what the output now holds, in sum.

    Raises BatchError, ModelError or DetectorError, with one line that says what to do; what was written stays.
    """
    analyzer = open_reader(job)
    # Other machines may lack the best detector; then they say so, and do not take the next best.
    job = replace(job, detector=analyzer.detector.name)
    by, output = stamp(job, analyzer), Output.at(request.out)
    claim(output, job, by, request.resume)
    try:
        with output.held():
            output.tidy((FACES, PLAN, SHARDS, CROPS))
            extend_plan(output, list_sources(request.inputs, request.column))
            plan, done = shards(output), finished(output)
            if not plan:
                raise InputError(f"There is no photo, film or tar file in {', '.join(request.inputs)}.")
            left = [shard for shard in plan if shard.id not in done]
            if left:
                with ray_running(request.address, request.cpus) as cores, Bar(plan, done) as bar:
                    Engine(job, output, by, cores).score(left, bar.update)
            return _conclude(output, plan, by, request.csv, job.crops)
    except OSError as error:
        raise output.fault(error) from error


def _conclude(output: Output, plan: Sequence[Shard], by: dict[str, str], as_csv: bool, crops: bool) -> Summary:
    summary = summarize(output)
    write_report(output, summary, by)
    if as_csv:
        write_csv(output, plan)
    if crops:
        join_crops(output, plan)
    return summary


def write_csv(output: Output, plan: Sequence[Shard]) -> None:
    """The whole table as one CSV, a row group in memory at a time. Raises OSError."""
    with output.written(_CSV) as path, pa.csv.CSVWriter(str(path), SCHEMA) as writer:
        for shard in plan:
            with output.open(shard.table) as file, pq.ParquetFile(file) as table:
                for batch in table.iter_batches():
                    writer.write_batch(batch)


def described(output: str, summary: Summary, as_csv: bool, crops: bool) -> str:
    """What was done, in three lines."""
    pictures = _of({"photos": summary.pictures - summary.frames, "frames": summary.frames})
    lines = [f"{summary.faces:,} faces in {pictures}, {summary.empty:,} of them without a face"]
    if errors := sum(summary.errors.values()):
        codes = ", ".join(f"{code} {count:,}" for code, count in summary.errors.most_common())
        lines.append(f"{errors:,} errors: {codes} (the rows with an error name the files)")
    written = [f"{FACES}/", "summary.html"]
    written += [_CSV] * as_csv + [FACES_FILE, VOTES_FILE] * crops
    lines.append(f"written: {', '.join(f'{output}/{name}' for name in written)}")
    return "\n".join(lines)


def _of(counts: dict[str, int]) -> str:
    return " and ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no picture"
