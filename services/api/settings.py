"""Every setting of the API, read once from environment variables that begin with MIEN_."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.api.logs import LogFormat
from shared.assembly import YUNET_MODEL, DetectorChoice

PREFIX: Final = "MIEN_"
LARGEST_REQUEST: Final = 5  # times max_upload_bytes: a batch of four images, and room for its form
# Read by others than the API: the trainer's image names its commit by it.
_FOREIGN: Final = {"MIEN_COMMIT"}


class Settings(BaseSettings):
    """Frozen. docs/operations.md describes each of them; a test compares the two."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every interface.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port to listen on; 0 takes a free one.")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port for /metrics alone, on the same address; without one they are on the service's port."
    )
    log_format: LogFormat = Field("auto", description="json, text, or auto: text at a terminal and JSON elsewhere.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is logged."
    )
    drain_delay_s: Annotated[float, Field(ge=0, le=300)] = Field(
        0,
        description="Seconds between not being ready and refusing connections when stopping, for load balancers to notice.",
    )
    model: Path = Field(Path("models/default"), description="Model directory: model.onnx and manifest.json.")
    detector: DetectorChoice = Field(
        "auto", description="Face detector; auto uses YuNet where its file is installed, Haar otherwise."
    )
    yunet_model: Path = Field(YUNET_MODEL, description="YuNet's file, which `make yunet` fetches.")
    providers: str = Field(
        "CPU",
        description="ONNX Runtime's execution providers, the preferred first, as in TensorRT,CUDA,CPU; one that cannot be had is an error.",
    )
    flip: bool = Field(
        False,
        description="With on, each face is read together with its mirror image, at twice the time: "
        "steadier probabilities, the same accuracy.",
    )
    workers: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="Images worked on at once; 0 is one for each CPU that this process may use."
    )
    queue_size: Annotated[int, Field(ge=0, le=10_000)] = Field(
        32, description="Images that may wait for a worker; more are answered 503."
    )
    max_upload_bytes: Annotated[int, Field(ge=1024)] = Field(10_000_000, description="Largest image file, in bytes.")
    max_batch_files: Annotated[int, Field(ge=1, le=1000)] = Field(
        16, description="Most files in one call of /predict/batch; together no larger than four images may be."
    )
    max_pending_bytes: Annotated[int, Field(ge=1024)] = Field(
        200_000_000,
        validate_default=True,
        description="Bytes of images that may arrive and wait at once, at least five times MIEN_MAX_UPLOAD_BYTES; "
        "more are answered 503 before they are read.",
    )
    # Pillow itself refuses above 178 million pixels.
    max_image_pixels: Annotated[int, Field(ge=256, le=178_000_000)] = Field(
        50_000_000, description="Largest image, in pixels; decoding takes up to 8 bytes for each."
    )
    max_image_side_px: Annotated[int, Field(ge=16, le=65_535)] = Field(
        16_384, description="Longest side of an image, in pixels."
    )
    detect_side_px: Annotated[int, Field(ge=128, le=8192)] = Field(
        1024,
        description="Longest side, in pixels, at which faces are searched; detection time grows with its square.",
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Keys, separated by commas, one of which every request for a model's work must bring; none: no key is asked for.",
    )
    allowed_origins: str = Field(
        "", description="Origins, separated by commas, whose pages may ask beside those of this host; * is every page."
    )
    max_sessions: Annotated[int, Field(ge=0, le=100_000)] = Field(
        64, description="Video sessions at once; more are closed with 1013."
    )
    smoothing_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(
        250,
        description="Half-life, in milliseconds, of the probabilities of a face in a video; a session may choose another.",
    )
    max_faces: Annotated[int, Field(ge=1, le=1000)] = Field(
        32, description="Most faces in an answer, the largest first; a request may ask for fewer."
    )
    min_confidence: Annotated[float, Field(ge=0, le=1)] = Field(
        0.6, description="Least confidence of a detected face, 0 to 1; a request may ask otherwise."
    )

    @field_validator("max_pending_bytes")
    @classmethod
    def _holds_any_request(cls, pending: int, info: ValidationInfo) -> int:
        most = info.data.get("max_upload_bytes")
        if most is not None and pending < LARGEST_REQUEST * most:
            raise ValueError(
                f"a batch may be as large as {LARGEST_REQUEST} images; allow {LARGEST_REQUEST * most:,} or more"
            )
        return pending

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys; none means that no key is asked for."""
        return _listed(self.api_keys.get_secret_value())

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins that are allowed beside our own."""
        return _listed(self.allowed_origins)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def unknown_settings() -> list[str]:
    """A line for each MIEN_ variable in the environment that is no setting, with the nearest that is."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    lines = []
    for name in sorted(set(map(str.upper, os.environ)) - known - _FOREIGN):
        if name.startswith(PREFIX):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            lines.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else "."))
    return lines
