"""`prune`: removes channels from a trained network and fine-tunes it.

Channels are removed, not set to zero: ONNX Runtime multiplies zeros as fast as anything else. Within a residual block,
only the second convolution sees the first one's channels, so these can go without touching the rest.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from services.trainer.data.dataset import Dataset
from services.trainer.errors import ConfigError, WorkdirError
from services.trainer.shipping.export import write_onnx
from services.trainer.shipping.speed import Comparison, compare_speed
from services.trainer.training.config import TrainConfig
from services.trainer.training.metrics import score
from services.trainer.training.networks import PRUNABLE, build
from services.trainer.training.predictors import HEADS, keras_predictor, one_answer
from services.trainer.training.train import Start, train
from services.trainer.training.workdir import Workdir
from shared.atomic import atomic_file, write_text
from shared.manifest import sha256_of

_SLOWER: Final = 0.25  # times the learning rate: the weights are already good


@dataclass(frozen=True, slots=True)
class Pruned:
    """The result: validation accuracy before, just after cutting, and fine-tuned; parameters, size and speed."""

    accuracy: tuple[float, float, float]
    parameters: tuple[int, int]
    comparison: Comparison


def prune(workdir: Path, data: Dataset, keep: float, epochs: int, out: Path, quiet: bool = False) -> Pruned:
    """Keep the share `keep` of the inner channels of each block of the best model of `workdir`; train `epochs` in `out`.

    `out` becomes an ordinary run: the same command resumes it, `export` exports it. Raises ConfigError for a network
    without inner channels, WorkdirError as `train` does, and for a network of another version of the trainer.
    """
    home = Workdir(workdir)
    config = TrainConfig.model_validate(home.read_run()["config"])
    if config.network not in PRUNABLE:
        raise ConfigError(f"{config.network} cannot be pruned; these can: {', '.join(PRUNABLE)}.")
    whole = home.load_best()
    heads = HEADS if len(whole.outputs) > 1 else ()
    narrow = build(f"{config.network}:{keep}", heads=heads)
    if _shapes(whole) != _shapes(build(config.network, heads=heads)):
        raise WorkdirError(f"{workdir} holds a {config.network} of another version of the trainer; train it again.")
    _copy_kept_channels(whole, narrow)
    validation = data.split("validation")
    just_cut = _accuracy(narrow, validation)
    tuning = _fine_tuning(config, keep, epochs)
    init = _begun(home, narrow, keep, out)
    train(tuning, data, out, Start(init=(init,), init_runs=(workdir,)), quiet)
    tuned = Workdir(out).load_best()
    return Pruned(
        (_accuracy(whole, validation), just_cut, _accuracy(tuned, validation)),
        (whole.count_params(), tuned.count_params()),
        _compare(whole, tuned),
    )


def _begun(home: Workdir, narrow: keras.Model, keep: float, out: Path) -> Path:
    """The file that the pruned run starts from; a resumed run must start from the same one."""
    init, note = out / "init.keras", out / "pruned_from.json"
    origin = json.dumps({"sha256": sha256_of(home.best_model()), "keep": keep})
    if init.exists() and note.exists():
        if note.read_text(encoding="utf-8") != origin:
            raise WorkdirError(f"{out} was pruned from another model. Choose another --out.")
        return init
    if (out / "run.json").exists():
        raise WorkdirError(f"{out} holds a run that was not pruned from this one. Choose another --out.")
    with atomic_file(init) as beside:
        narrow.save(beside)
    write_text(note, origin)
    return init


def _fine_tuning(config: TrainConfig, keep: float, epochs: int) -> TrainConfig:
    slower = {"learning_rate": config.optimizer.learning_rate * _SLOWER, "warmup_epochs": 0}
    tuned = {
        "network": f"{config.network}:{keep}",
        "epochs": epochs,
        "optimizer": config.optimizer.model_dump() | slower,
        # The teachers were the whole network's.
        "target": config.target.model_dump() | {"teacher_weight": 0.0},
        "people": config.people and config.people.model_dump() | {"teacher_weight": 0.0},
        "unlabeled_share": 0.0,
    }
    try:
        return TrainConfig.model_validate(config.model_dump() | tuned)
    except ValidationError as error:
        raise ConfigError(f"--epochs {epochs}: {error.errors()[0]['msg']}.") from error


def _copy_kept_channels(whole: keras.Model, narrow: keras.Model) -> None:
    """Give `narrow` the weights of `whole`, without the weakest inner channels of each block.

    The strength of a channel is the absolute gamma of its normalization (Liu et al. 2017).
    """
    kept: npt.NDArray[np.intp] | None = None
    for source, target in zip(whole.layers, narrow.layers, strict=True):
        weights = source.get_weights()
        if isinstance(source, keras.layers.BatchNormalization):
            if weights[0].shape != target.get_weights()[0].shape:
                assert kept is not None
                weights = [values[kept] for values in weights]
        elif isinstance(source, keras.layers.Conv2D):
            if kept is not None and weights[0].shape[2] != target.kernel.shape[2]:
                weights[0] = weights[0][:, :, kept]
                kept = None
            if weights[0].shape[3] != target.kernel.shape[3]:
                gamma = np.abs(_normalization_after(whole, source).get_weights()[0])
                kept = np.sort(np.argsort(-gamma, kind="stable")[: target.kernel.shape[3]])
                weights[0] = weights[0][..., kept]
        target.set_weights(weights)


def _normalization_after(model: keras.Model, layer: keras.layers.Layer) -> Any:
    return model.layers[model.layers.index(layer) + 1]


def _shapes(model: keras.Model) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in model.weights]


def _accuracy(model: keras.Model, part: Dataset) -> float:
    return score(one_answer(keras_predictor(model), "labels")(part.pixels), part.labels).accuracy


def _compare(before: keras.Model, after: keras.Model) -> Comparison:
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / f"{name}.onnx" for name in ("before", "after")]
        for model, path in zip((before, after), paths, strict=True):
            write_onnx(model, path)
        return compare_speed(*paths)
