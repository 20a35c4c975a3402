"""What decides a job's rows: the model, the detector, and how films are read. The output remembers it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2

from services.batch.errors import OutputError
from services.batch.films import Span
from services.batch.plan import FACES, PLAN, SHARDS
from services.batch.storage import Output
from shared.analysis import MIN_FACE_PX, Options
from shared.analyzer import Analyzer
from shared.answers import AnswerName, Prior
from shared.assembly import DETECT_SIDE_PX, open_analyzer
from shared.detectors import MIEN_DETECTOR, YUNET_MODEL, DetectorChoice, DetectorFiles
from shared.manifest import MODEL_FILE, sha256_of
from shared.pictures import ImageLimits

JOB: Final = "job.json"
FORMAT: Final = 3
_VERSION_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides the rows. Paths must lead to the same files on every machine of a cluster."""

    model: str = "models/default"
    detector: DetectorChoice = "auto"
    detector_model: str = str(MIEN_DETECTOR)
    yunet_model: str = str(YUNET_MODEL)
    detect_side_px: int = DETECT_SIDE_PX
    flip: bool = False
    max_faces: int = 32
    min_confidence: float = 0.6
    min_face: float = MIN_FACE_PX
    answer: AnswerName | None = None
    prior: Prior | None = None
    every_s: float | None = None
    from_s: float = 0.0
    to_s: float | None = None
    smoothing_s: float = 0.5
    crops: bool = False

    @property
    def span(self) -> Span:
        return Span(self.every_s, self.from_s, self.to_s)

    @property
    def options(self) -> Options:
        return Options(
            max_faces=self.max_faces,
            min_confidence=self.min_confidence,
            min_face=self.min_face,
            answer=self.answer,
            prior=self.prior,
        )


def open_reader(job: Job) -> Analyzer:
    """The analyzer of `job`, its model verified. Raises ModelError, DetectorError, UnknownAnswer or UnusablePrior."""
    limits = ImageLimits(target_side_px=job.detect_side_px)
    files = DetectorFiles(Path(job.detector_model), Path(job.yunet_model))
    analyzer = open_analyzer(Path(job.model), job.detector, files, limits, mirror=job.flip)
    analyzer.check(job.options)
    return analyzer


def stamp(job: Job, analyzer: Analyzer) -> dict[str, str]:
    """Who answered: the columns of model and detector."""
    model = analyzer.model
    return {
        "model": model.name,
        "model_version": model.version,
        "answer": job.answer or analyzer.manifest.default_answer,
        "detector": model.detector,
        "detector_version": _detector_version(job, model.detector),
    }


def _detector_version(job: Job, name: str) -> str:
    files = {"mien": Path(job.detector_model) / MODEL_FILE, "yunet": Path(job.yunet_model)}
    return sha256_of(files[name])[:_VERSION_DIGITS] if name in files else f"opencv-{cv2.__version__}"


def claim(output: Output, job: Job, by: dict[str, str], resume: bool) -> None:
    """Make `output` this job's, or go on with it where it is.

    Raises OutputError where it is another job's and not to be gone on with (`resume`), or holds files of others.
    """
    # By the names that the rows carry and not by paths: a model that was moved is the same.
    rows = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(job).items()
        if name not in ("model", "detector_model", "yunet_model", "detector", "answer")
    }
    mine = {"format": FORMAT, "by": by, "rows": rows}
    try:
        if output.exists(JOB):
            _compare(output, mine, resume)
        elif used := [name for name in (FACES, PLAN, SHARDS) if output.names(name)]:
            raise OutputError(
                f"{output.url} has a folder {used[0]}/ but no {JOB}: it is no output of this command. Choose another --out."
            )
        output.write_json(JOB, mine)
    except OSError as error:
        raise output.fault(error) from error


def _compare(output: Output, mine: dict[str, Any], resume: bool) -> None:
    try:
        theirs = output.read_json(JOB)
        before = theirs["by"] | theirs["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{output.url}/{JOB} is damaged ({error}). Choose another --out.") from error
    if theirs.get("format") != FORMAT:
        raise OutputError(f"{output.url} was written by another version of this command. Choose another --out.")
    now = mine["by"] | mine["rows"]
    differing = [f"{name} {before.get(name)} (now {now[name]})" for name in now if now[name] != before.get(name)]
    if differing and not resume:
        raise OutputError(
            f"{output.url} holds rows of {', '.join(differing)}. Choose another --out, or keep them and score only "
            "what is left with --resume."
        )
