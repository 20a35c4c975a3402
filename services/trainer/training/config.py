"""The configuration of a run: what a TOML file in configs/ may contain, with its bounds."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from services.trainer.errors import ConfigError

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
_Bound: TypeAlias = Annotated[float, Field(gt=0, le=10)]


def _rising(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("the first number must not be larger than the second")
    return span


Span: TypeAlias = Annotated[tuple[_Bound, _Bound], AfterValidator(_rising)]  # uniform between the two


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OptimizerConfig(_Section):
    """How weights move."""

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 2
    momentum: Share = 0.9  # sgd only, Nesterov
    weight_decay: Annotated[float, Field(ge=0)] = 0.02  # biases and normalization are exempt
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998  # average of weights over steps; 0 is none
    clip_norm: Annotated[float, Field(ge=0)] = 0  # of each weight's gradient; 0 is none


class TargetConfig(_Section):
    """What one answer of the network is asked to be."""

    original_weight: Share = 1.0  # the rest is FER+'s vote share
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    teacher_weight: Share = 0.0  # of the whole, what teachers say (--taught)
    drop_not_a_face: bool = False  # leave out training images that half of FER+'s raters call no face


class LossConfig(_Section):
    """What a wrong prediction costs, and how the rarity of a class changes that."""

    name: Literal["crossentropy", "focal", "logit_adjusted"] = "crossentropy"
    gamma: Annotated[float, Field(ge=0)] = 2.0  # focal only: larger values make confident predictions count less
    tau: Annotated[float, Field(ge=0)] = 1.0  # logit_adjusted only: how much of the log prior is added in training
    class_weights: Literal["none", "sqrt", "inverse"] = (
        "none"  # the loss of a class is divided by this power of its frequency
    )


class TransferConfig(_Section):
    """Fine-tuning of a network from keras.applications: first a new head, then its top layers (paper, 6)."""

    head_epochs: Annotated[int, Field(ge=1)] = 5
    top_layers: Annotated[int, Field(ge=0)] = 20  # trained after the head; normalization stays as it is
    fine_tuning_rate: Annotated[float, Field(gt=0)] = 1e-4


class AugmentConfig(_Section):
    """How training images are varied, drawn afresh in every epoch; the defaults vary nothing."""

    flip: bool = False
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0
    zoom: Span = (1, 1)
    aspect: Annotated[float, Field(ge=0, lt=1)] = 0  # width by 1 ± this
    shift_px: Annotated[float, Field(ge=0)] = 0
    brightness: Span = (1, 1)  # a factor, as in the paper
    brightness_shift: Annotated[float, Field(ge=0)] = 0  # ± grey levels of 255
    contrast: Span = (1, 1)  # a factor around mid-grey
    erase_share: Share = 0  # of the images have one patch covered
    erase_px: Annotated[
        tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=2, le=47)]], AfterValidator(_rising)
    ] = (6, 20)  # sides of the patch, the second excluded
    degrade_share: Share = 0  # of the images are blurred, noisy or coarse, as from cameras
    mixup_alpha: Annotated[float, Field(ge=0)] = 0  # 0 is none
    mixup_share: Share = 0.5  # of the batches


class TrainConfig(_Section):
    """A whole run. The same configuration, data and seed give the same model."""

    network: str
    seed: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 64
    sampling: Literal["natural", "sqrt"] = "natural"  # sqrt: classes as often as the root of their frequency
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    tensorboard: bool = False  # event files in the work directory
    model_file: Annotated[str, Field(pattern=r"^[\w-]+\.keras$")] = "best.keras"
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None  # epochs without a lower validation loss
    optimizer: OptimizerConfig = OptimizerConfig()
    target: TargetConfig = TargetConfig()  # of the answer "labels", or of the only one
    people: TargetConfig | None = None  # of a second answer, "people", where the data has FER+'s votes
    loss: LossConfig = LossConfig()
    consistency: Annotated[float, Field(ge=0)] = 0  # of two views of a face: weight of the distance of their answers
    unlabeled_share: Annotated[float, Field(ge=0, lt=1)] = 0  # of the images, faces that only teachers know (--faces)
    augment: AugmentConfig = AugmentConfig()
    transfer: TransferConfig | None = None


def load_config(path: Path) -> TrainConfig:
    """The run described by a TOML file.

    Raises ConfigError when the file is missing, unreadable or not TOML, or has an unknown key or a value out of range.
    """
    try:
        return TrainConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no configuration {path}; those we ship are in services/trainer/configs/."
        ) from error
    except OSError as error:  # a folder, say, or a file that may not be read
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{path}: {faults}.") from error
