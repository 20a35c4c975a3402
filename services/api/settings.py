"""Every setting of the API, read once from the environment variables that begin with MIEN_."""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from limits import parse
from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.api.logs import LogFormat
from services.api.schemas import prior_of
from shared.answers import AnswerName
from shared.detectors import MIEN_DETECTOR, YUNET_MODEL, DetectorChoice, DetectorFiles
from shared.errors import UnusablePrior
from shared.pipeline.formats.encoded import KINDS, Kind

PREFIX: Final = "MIEN_"
# What browsers send: scheme, host and port, in lower case, without the scheme's default port.
_ORIGIN: Final = re.compile(r"https?://[^\sA-Z/?#@]+")
_DEFAULT_PORT: Final = re.compile("http://.*:80|https://.*:443")
LARGEST_REQUEST: Final = 5  # times max_upload_bytes: a batch of four images, and room for its form
_ALSO_CALLED: Final = {"HEIF": "HEIC", "JPG": "JPEG", "TIF": "TIFF"}
# Not read by the API: the commit that the trainer's image was built from.
_FOREIGN: Final = {"MIEN_COMMIT"}


class Settings(BaseSettings):
    """Frozen. docs/operations.md describes each of them; a test compares the two."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 means every interface.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port to listen on; 0 picks a free one.")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None,
        description="Separate port for /metrics, on the same address; if unset, /metrics is on the service's port.",
    )
    log_format: LogFormat = Field("auto", description="json, text, or auto: text at a terminal, JSON elsewhere.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    drain_delay_s: Annotated[float, Field(ge=0, le=300)] = Field(
        0,
        description="Seconds, when stopping, between turning unready and refusing connections; gives load balancers time to notice.",
    )
    model: Path = Field(Path("models/default"), description="Model directory: model.onnx and manifest.json.")
    detector: DetectorChoice = Field(
        "auto", description="Face detector; auto uses the first that is installed of mien, yunet and haar."
    )
    detector_model: Path = Field(MIEN_DETECTOR, description="Directory of our own face detector.")
    yunet_model: Path = Field(YUNET_MODEL, description="YuNet's file, which `make yunet` fetches.")
    providers: str = Field(
        "CPU",
        description="ONNX Runtime's execution providers, preferred first, as in TensorRT,CUDA,CPU; an unavailable one is an error.",
    )
    flip: bool = Field(
        False,
        description="Average each face with its mirror image, unless the model does so itself: steadier probabilities, twice the time.",
    )
    workers: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="Images analyzed at once; 0 means one per CPU that this process may use."
    )
    queue_size: Annotated[int, Field(ge=0, le=10_000)] = Field(
        32, description="Images that may wait for a worker; further ones get 503."
    )
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        10, description="Seconds that one image may take, waiting and work together; then it gets 504."
    )
    upload_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        120,
        description="Seconds that an upload may take; one that pauses for a sixth of that, or brings less than 1,000 bytes "
        "per second, is ended sooner.",
    )
    stop_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        20, description="Seconds, when stopping, that accepted requests may take to end; then they get 503."
    )
    rate_limit: str = Field(
        "",
        description="Requests per key, or without one per address, as in 100/minute; further ones get 429. Unset: none.",
    )
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1000, description="Maximum number of connections at once; further ones get 503 and are closed."
    )
    formats: str = Field(
        ",".join(KINDS),
        description="Image formats that are read, separated by commas; HEIF, JPG and TIF are understood too.",
    )
    max_upload_bytes: Annotated[int, Field(ge=1024)] = Field(
        10_000_000, description="Maximum size of an image file, in bytes."
    )
    max_batch_files: Annotated[int, Field(ge=1, le=1000)] = Field(
        16,
        description="Maximum number of files in one /predict/batch; together at most four times MIEN_MAX_UPLOAD_BYTES.",
    )
    max_pending_bytes: Annotated[int, Field(ge=1024)] = Field(
        500_000_000,
        validate_default=True,
        description="Memory, in bytes, that uploads, batches, frames and the decoding of large images share, at least five "
        "times MIEN_MAX_UPLOAD_BYTES; further requests get 503 before they are read.",
    )
    # Pillow itself refuses above 178 million pixels.
    max_image_pixels: Annotated[int, Field(ge=256, le=178_000_000)] = Field(
        50_000_000,
        description="Maximum size of an image, in pixels; docs/operations.md (Sizing) has the memory that decoding takes.",
    )
    max_image_side_px: Annotated[int, Field(ge=16, le=65_535)] = Field(
        16_384, description="Maximum side of an image, in pixels."
    )
    detect_side_px: Annotated[int, Field(ge=128, le=8192)] = Field(
        1024,
        description="Size, in pixels of the longer side, at which faces are searched for; detection time grows with its square.",
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys, separated by commas; requests to /predict, /model and /stream need one of them. Unset: no key is needed.",
    )
    allowed_origins: str = Field(
        "",
        description="Origins, separated by commas, whose pages may use the service besides this host's own; * allows every page.",
    )
    max_sessions: Annotated[int, Field(ge=0, le=100_000)] = Field(
        64, description="Maximum number of video sessions at once; further ones are closed with 1013."
    )
    idle_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = Field(
        60, description="Seconds after which a video session is closed when its client sends nothing."
    )
    smoothing_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(
        250,
        description="Half-life, in milliseconds, of a face's smoothed probabilities in a video; a session may set its own.",
    )
    answer: AnswerName | None = Field(
        None, description="people or labels: whose view of a face is given; unset, people where the model has it."
    )
    prior: str | None = Field(
        None,
        description="natural, balanced, or seven expected shares, separated by commas; unset, the model's own default.",
    )
    max_faces: Annotated[int, Field(ge=1, le=1000)] = Field(
        32, description="Maximum number of faces in an answer, largest first; a request may ask for fewer."
    )
    min_confidence: Annotated[float, Field(ge=0, le=1)] = Field(
        0.6, description="Minimum confidence of a detected face, 0 to 1; a request may set its own."
    )
    min_face: Annotated[float, Field(ge=0, le=65_535)] = Field(
        20,
        description="Smallest face to look for: below 1 a share of the picture's shorter side, otherwise pixels; larger is faster, 0 searches at MIEN_DETECT_SIDE_PX. A request may set its own.",
    )

    @field_validator("max_pending_bytes")
    @classmethod
    def _fits_any_request(cls, pending: int, info: ValidationInfo) -> int:
        limit = info.data.get("max_upload_bytes")
        if limit is not None and pending < LARGEST_REQUEST * limit:
            raise ValueError(f"one batch may need {LARGEST_REQUEST * limit:,}; allow at least that")
        return pending

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, rate: str) -> str:
        try:
            if rate:
                parse(rate)
        except ValueError:
            raise ValueError("write it like 100/minute or 5/second") from None
        return rate

    @field_validator("formats")
    @classmethod
    def _are_known(cls, formats: str) -> str:
        kinds = [_ALSO_CALLED.get(name, name) for name in _listed(formats.upper())]
        if not kinds or not set(kinds) <= set(KINDS):
            raise ValueError(f"choose from {', '.join(KINDS)}")
        return ",".join(kinds)

    @field_validator("metrics_port")
    @classmethod
    def _is_separate(cls, metrics_port: int | None, info: ValidationInfo) -> int | None:
        if metrics_port and metrics_port == info.data.get("port"):
            raise ValueError("it is the service's own port; unset it to have /metrics there")
        return metrics_port

    @field_validator("prior")
    @classmethod
    def _is_a_prior(cls, prior: str | None) -> str | None:
        try:
            prior_of(prior or "natural")
        except UnusablePrior as error:
            raise ValueError(str(error)) from error
        return prior

    @field_validator("api_keys")
    @classmethod
    def _has_no_blank_key(cls, keys: SecretStr) -> SecretStr:
        text = keys.get_secret_value()
        if text and not all(part.strip() for part in text.split(",")):
            raise ValueError("one of the keys is blank; unset it to serve without a key")
        return keys

    @field_validator("allowed_origins")
    @classmethod
    def _can_match(cls, origins: str) -> str:
        for origin in _listed(origins):
            if origin != "*" and (not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin)):
                raise ValueError(
                    f"{origin!r} is not an origin; write it like https://app.example or http://localhost:9000"
                )
        return origins

    @property
    def detector_files(self) -> DetectorFiles:
        """Where the detectors are."""
        return DetectorFiles(self.detector_model, self.yunet_model)

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys; without any, no key is needed."""
        return _listed(self.api_keys.get_secret_value())

    @property
    def image_kinds(self) -> tuple[Kind, ...]:
        """The image formats that are read."""
        return tuple(kind for kind in KINDS if kind in _listed(self.formats))

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins allowed besides this host's own."""
        return _listed(self.allowed_origins)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def undecodable_settings() -> list[str]:
    """A line for each MIEN_ variable whose value is not text."""
    return [
        f"{name} is not valid UTF-8."
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(PREFIX) and not value.isascii() and value != value.encode(errors="replace").decode()
    ]


def unknown_settings() -> list[str]:
    """A line for each MIEN_ variable in the environment that is not a setting, with the most similar one."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    lines = []
    for name in sorted(set(map(str.upper, os.environ)) - known - _FOREIGN):
        if name.startswith(PREFIX):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            lines.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "."))
    return lines
