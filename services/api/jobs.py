"""The messages between the service and its worker processes.

The service sends an Assembly, answered by Ready or Refused, and then Jobs, answered by Done, Failed or Fault. Before
that a worker may send Reserve, which the service answers when there is memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from shared.analysis import Analysis, Model, Options
from shared.answers import AnswerName, Prior
from shared.detectors import DetectorChoice, DetectorFiles
from shared.errors import MienError
from shared.manifest import ModelManifest
from shared.pictures import ImageKind, ImageLimits

# Memory that a worker may use without asking; a photo of 12 megapixels takes less.
OWN_BYTES: Final = 32_000_000


@dataclass(frozen=True, slots=True)
class Assembly:
    """The arguments of `open_analyzer`, for one thread."""

    model: Path
    detector: DetectorChoice
    detector_files: DetectorFiles
    limits: ImageLimits
    providers: tuple[str, ...]
    mirror: bool
    answer: AnswerName | None  # that the model must be able to give, for this prior
    prior: Prior | None
    memory_bytes: int  # that a job may reserve beyond OWN_BYTES


@dataclass(frozen=True, slots=True)
class Ready:
    """The analyzer was verified and warmed up."""

    model: Model
    manifest: ModelManifest


@dataclass(frozen=True, slots=True)
class Refused:
    """The analyzer cannot be used; `details` is a traceback if it is unexpected."""

    reason: str
    details: str = ""


class Job(NamedTuple):  # a tuple is pickled in a tenth of the time, and every image takes one of these
    """One image, possibly still in base64, which has waited for `waited_s`.

    With `request_id`, the answer to that request is wanted in JSON. With `draw`, the picture is wanted back with its
    faces drawn on it, with `points` their landmarks too. Otherwise the analysis is wanted, with `crops` what the
    classifier saw of each face.
    """

    data: bytes
    options: Options
    base64: bool = False
    waited_s: float = 0.0
    request_id: str = ""
    draw: ImageKind | None = None
    points: bool = False
    crops: bool = False


@dataclass(frozen=True, slots=True)
class Reserve:
    """The job needs this much memory beyond OWN_BYTES, and waits until it may go on."""

    bytes: int


class Done(NamedTuple):
    """What was wanted: the answer or the picture in `body`, or the analysis.

    In any case how long each stage took, and of each face the top emotion and its probability.
    """

    timings_s: dict[str, float]
    tops: tuple[tuple[str, float], ...]
    body: bytes = b""
    analysis: Analysis | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The job raised an expected error."""

    error: MienError


@dataclass(frozen=True, slots=True)
class Fault:
    """The job raised an unexpected error; its traceback."""

    details: str
