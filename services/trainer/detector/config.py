"""A run of the detector, written down: what a TOML file may say, with its bounds."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.trainer.errors import ConfigError


class DetectorConfig(BaseModel):
    """The same configuration, data and seed give the same scenes in the same order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: Annotated[int, Field(ge=0)] = 0
    side_px: Annotated[int, Field(ge=64, le=1024, multiple_of=32)] = 256  # of a scene
    batch_size: Annotated[int, Field(ge=1)] = 8
    steps: Annotated[int, Field(ge=1)]  # batches
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 300
    decay_share: Annotated[float, Field(ge=0, le=1)] = 0.35  # of the steps, the last, in which the rate falls to 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.99  # average of weights over steps
    mine_every: Annotated[int, Field(ge=1)] = 1000  # steps between searches for places that look like faces
    save_every: Annotated[int, Field(ge=1)] = 500
    validation_batches: Annotated[int, Field(ge=1)] = 12

    def rate(self, step: int) -> float:
        """The learning rate of a step: it rises, stays, and falls to zero in the end."""
        decay = max(1.0, self.decay_share * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup_steps), (self.steps - step) / decay)


def load_detector_config(path: Path) -> DetectorConfig:
    """The run described by a TOML file. Raises ConfigError when it is missing, broken or out of bounds."""
    try:
        return DetectorConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}.") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{path}: {faults}.") from error
