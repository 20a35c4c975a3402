"""The messages of /stream besides frames: JSON, one object per message, its kind in `type`."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from services.api import replies
from services.api.schemas import MIN_FACE
from shared.analysis import Analysis
from shared.answers import AnswerName
from shared.tracking import TrackedFace

PROTOCOL: Final = 1
SUBPROTOCOL: Final = "mien.v1"
BAD_MESSAGE: Final = "bad_message"
BAD_TIME: Final = "bad_time"


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Authenticate(_Command):
    """The API key, for clients that can set neither a header nor a subprotocol."""

    type: Literal["authenticate"]
    key: str


class Configure(_Command):
    """Options of this session; those left out stay as they are."""

    type: Literal["configure"]
    max_faces: Annotated[int | None, Field(ge=1, le=1000)] = None
    min_confidence: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    min_face: Annotated[float | None, MIN_FACE] = None
    smoothing: Annotated[
        float | None, Field(ge=0, le=10_000, allow_inf_nan=False, description="Half-life in milliseconds; 0 is none.")
    ] = None
    answer: AnswerName | None = None
    prior: str | list[float] | None = None  # a name, or seven shares


class FrameTime(_Command):
    """The time of the next frame in its film; identity and smoothing then follow it instead of the server's clock."""

    type: Literal["frame"]
    time_ms: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


AnyCommand: TypeAlias = Authenticate | Configure | FrameTime
Command = TypeAdapter[AnyCommand](Annotated[AnyCommand, Field(discriminator="type")])


def result(
    frame: int, dropped: int, time_ms: float | None, analysis: Analysis, faces: list[TrackedFace], lag_s: float
) -> dict[str, Any]:
    """The answer to one frame; `dropped` frames before it were skipped, and `time_ms` is the time it came with."""
    return {
        "type": "result",
        "frame": frame,
        "dropped": dropped,
        "time_ms": time_ms,
        "model": analysis.model.version,
        "image": {"width": analysis.width, "height": analysis.height},
        "faces": [_face(tracked) for tracked in faces],
        "timings_ms": {
            **replies.in_ms(analysis.timings_s),
            "lag": round(lag_s * 1000, 3),
        },
    }


def frame_error(frame: int, dropped: int, code: str, detail: str) -> dict[str, Any]:
    """What was wrong with a frame; `dropped` frames before it were skipped."""
    return {"type": "error", "frame": frame, "dropped": dropped, "code": code, "detail": detail}


def message_error(detail: str, code: str = BAD_MESSAGE) -> dict[str, Any]:
    """What was wrong with a text message."""
    return {"type": "error", "code": code, "detail": detail}


def _face(tracked: TrackedFace) -> dict[str, Any]:
    raw = replies.face(tracked.face)
    return {
        "id": tracked.id,
        "box": raw["box"],
        "confidence": raw["confidence"],
        "emotion": tracked.emotion,
        "probabilities": replies.by_emotion(tracked.probabilities),
        "raw_probabilities": raw["probabilities"],
        "landmarks": raw["landmarks"],
        "roll_deg": raw["roll_deg"],
    }
