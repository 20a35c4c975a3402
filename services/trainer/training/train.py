"""`train`: a configuration and a data file in, a trained network out; killed at any point, it resumes."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras

from services.trainer.data.dataset import Dataset
from services.trainer.data.faces import Faces
from services.trainer.errors import ConfigError
from services.trainer.training import mobilenet_v1
from services.trainer.training.ahead import made_ahead
from services.trainer.training.ancestry import source_of
from services.trainer.training.batches import Batches, FollowEpoch, Lessons, TrainingBatches
from services.trainer.training.callbacks import EpochEnd, Progress, StopOnNaN, computing_in
from services.trainer.training.config import OptimizerConfig, TrainConfig
from services.trainer.training.initial import initialize, sources_sha256
from services.trainer.training.losses import build_loss
from services.trainer.training.networks import TRANSFER, build
from services.trainer.training.predictors import HEADS
from services.trainer.training.teachers import Taught
from services.trainer.training.transfer import freeze
from services.trainer.training.workdir import History, Origin, Workdir
from shared.atomic import write_text
from shared.manifest import sha256_of

_LONGEST_AVERAGE: Final = 0.15  # of a run's steps; the configurations that we ship average over less on FER2013


@dataclass(frozen=True, slots=True)
class Start:
    """What a run starts from besides configuration and data.

    Weights: `pretrained` for a network of keras.applications ("imagenet" or a file) or for mobilenet-v1 (a .tflite),
    `init` a trained .keras or a model directory, or one for each branch. `taught` is what teachers say, `faces` are
    unlabeled faces that only they know. `init_runs` are the runs that `init` was made from, where `init` is not itself a
    run's best model.
    """

    pretrained: str | None = "imagenet"
    init: tuple[Path, ...] = ()
    taught: Taught | None = None
    faces: Faces | None = None
    init_runs: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class _Phase:
    """Epochs after `since`, up to `until`, with one optimizer; a network of keras.applications learns in two of them."""

    since: int
    until: int
    optimizer: OptimizerConfig
    top_layers: int | None = None  # how many layers of the backbone learn; None: the whole network


def train(
    config: TrainConfig, data: Dataset, workdir: Path, start: Start = Start(), quiet: bool = False, workers: int = 1
) -> History:
    """Train `config.network` on `data`, from the last whole epoch in `workdir` where there is one.

    With several `workers`, as many processes make the batches; the result is the same. Each epoch ends with a
    validation of the averaged weights, a checkpoint, and the best model kept.
    Returns the history, one record an epoch. Raises WorkdirError when `workdir` is another run's,
    ConfigError for an unknown network, weights that are unavailable, or teachers that the configuration does not
    ask for (or the other way round), TrainingDiverged when the loss is no number, TrainingInterrupted when a worker died.
    """
    keras.utils.set_random_seed(config.seed)
    with computing_in(config.precision):
        lessons = Lessons(data.split("train"), start.taught, start.faces)
        with made_ahead(TrainingBatches(lessons, config), workers) as batches:
            return _train(config, data, workdir, start, batches, quiet)


def _train(config: TrainConfig, data: Dataset, workdir: Path, start: Start, batches: Batches, quiet: bool) -> History:
    # Everything that can be wrong is found before the folder becomes this run's.
    home, phases = Workdir(workdir), _phases(config)
    heads = HEADS if config.people and data.has_votes else ()
    model, pretrained = _network(config, heads, start, data, fresh=not home.checkpoint.exists())
    if start.init:
        initialize(model, start.init, data.split("train").pixels)
    teachers = start.taught.teachers if start.taught else ()
    began_with = tuple(source_of(path) for path in start.init_runs or start.init)
    home.claim(config, data, Origin(pretrained, sources_sha256(start.init), began_with, teachers, start.faces))
    write_text(home.path / "summary.txt", _summary(model))
    write_text(home.path / "architecture.json", model.to_json(indent=1) + "\n")
    history: History = home.read_checkpoint_history()
    for phase in phases:
        epochs = EpochEnd(home, data.split("validation"), history, config, phases[-1].since)
        if len(history) >= phase.until or epochs.patience_is_over():
            continue
        _compile(model, config, phase, batches)
        home.restore(model, with_optimizer=len(history) > phase.since)
        with closing(Progress(quiet, config.epochs)) as progress:
            model.fit(
                batches,
                initial_epoch=len(history),
                epochs=phase.until,
                shuffle=False,  # the batches shuffle by seed and epoch
                verbose=0,
                callbacks=[
                    FollowEpoch(batches, config.seed),
                    StopOnNaN(),
                    epochs,
                    *_tensorboard(home, config),
                    progress,
                ],
            )
    return history


def _network(
    config: TrainConfig, heads: tuple[str, ...], start: Start, data: Dataset, fresh: bool
) -> tuple[keras.Model, str | None]:
    """The network of a run, with the weights it starts from where it is `fresh`; and what identifies those weights."""
    if config.network in TRANSFER:
        return build(config.network, start.pretrained if fresh else None, heads), start.pretrained
    model = build(config.network, heads=heads)
    if not config.network.startswith(mobilenet_v1.NAME) or start.pretrained is None:
        return model, None
    file = Path(start.pretrained)
    if fresh:
        mobilenet_v1.load_tflite(model, file, data.split("train").pixels)
    return model, f"sha256:{sha256_of(file)}"


def _phases(config: TrainConfig) -> list[_Phase]:
    if config.network not in TRANSFER:
        return [_Phase(0, config.epochs, config.optimizer)]
    if config.transfer is None or config.transfer.head_epochs >= config.epochs:
        raise ConfigError(f"{config.network} needs a [transfer] section with head_epochs below epochs.")
    transfer = config.transfer
    slower = config.optimizer.model_copy(update={"learning_rate": transfer.fine_tuning_rate})
    return [
        _Phase(0, transfer.head_epochs, config.optimizer, top_layers=0),
        _Phase(transfer.head_epochs, config.epochs, slower, top_layers=transfer.top_layers),
    ]


def _compile(model: keras.Model, config: TrainConfig, phase: _Phase, batches: Batches) -> None:
    if phase.top_layers is not None:
        freeze(model, phase.top_layers)
    optimizer = build_optimizer(phase.optimizer, phase.until - phase.since, len(batches))
    answers = len(model.outputs)
    losses = [build_loss(config.loss, batches.frequencies, config.consistency) for _ in range(answers)]
    metrics = [["accuracy"] for _ in range(answers)]
    model.compile(optimizer=optimizer, loss=losses, metrics=metrics)
    model.optimizer.build(model.trainable_variables)


def build_optimizer(config: OptimizerConfig, epochs: int, steps_per_epoch: int) -> keras.Optimizer:
    """The optimizer of a configuration, its schedule spread over `epochs` of `steps_per_epoch`."""
    rate: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
    if config.schedule == "cosine":
        warmup = round(config.warmup_epochs * steps_per_epoch)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=config.learning_rate,
            warmup_steps=warmup,
            decay_steps=max(1, epochs * steps_per_epoch - warmup),
            alpha=1e-3,
        )
    averaging: dict[str, Any] = {}
    if config.ema:
        # The average reaches 1 / (1 - momentum) steps back: in a short run no further than a share of it, or the weights
        # would never leave their beginning.
        momentum = min(config.ema, max(0.0, 1 - 1 / (_LONGEST_AVERAGE * epochs * steps_per_epoch)))
        averaging = {"use_ema": True, "ema_momentum": momentum, "ema_overwrite_frequency": None}
    common = {
        "learning_rate": rate,
        "weight_decay": config.weight_decay or None,
        "clipnorm": config.clip_norm or None,
        **averaging,
    }
    if config.name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=config.momentum, nesterov=True, **common)
    else:
        kind = keras.optimizers.Adam if config.name == "adam" else keras.optimizers.AdamW
        optimizer = kind(**common)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _tensorboard(home: Workdir, config: TrainConfig) -> list[keras.callbacks.Callback]:
    return [keras.callbacks.TensorBoard(home.tensorboard, write_graph=False)] if config.tensorboard else []


def _summary(model: keras.Model) -> str:
    lines: list[str] = []
    model.summary(line_length=100, print_fn=lambda line, **_: lines.append(line))
    return "\n".join(lines) + "\n"
