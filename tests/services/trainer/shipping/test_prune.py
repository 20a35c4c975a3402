"""Fewer channels, measured against the network they come from."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.errors import ConfigError, WorkdirError
from services.trainer.shipping.prune import _copy_kept_channels, prune
from services.trainer.training.ancestry import source_of
from services.trainer.training.config import TrainConfig
from services.trainer.training.networks import build, inner_width
from services.trainer.training.predictors import keras_predictor
from services.trainer.training.train import train
from services.trainer.training.workdir import Workdir


def test_pruning_keeps_the_strongest_channels_where_they_belong(run: Path) -> None:
    """With the weak channels silenced beforehand, taking them away changes no answer."""
    whole, narrow = Workdir(run).load_best(), build("mien-small:0.5")
    for number, layer in enumerate(whole.layers[:-1]):
        after = whole.layers[number + 1]
        if isinstance(layer, keras.layers.Conv2D) and isinstance(after, keras.layers.BatchNormalization):
            inner = narrow.layers[number].kernel.shape[3]
            if inner != layer.filters:
                gamma, beta, mean, variance = after.get_weights()
                silent = np.argsort(np.abs(gamma))[: layer.filters - inner]
                gamma[silent], beta[silent] = 0, 0
                after.set_weights([gamma, beta, mean, variance])
    _copy_kept_channels(whole, narrow)
    faces = np.random.default_rng(0).integers(0, 256, (4, 48, 48), dtype=np.uint8)
    assert np.allclose(keras_predictor(whole)(faces)["labels"], keras_predictor(narrow)(faces)["labels"], atol=1e-5)


def test_a_pruned_run_is_smaller_and_a_run_like_any_other(run: Path, drawn: Dataset) -> None:
    done = prune(run, drawn, keep=0.5, epochs=1, out=run.parent / "pruned", quiet=True)
    assert done.parameters[1] < 0.65 * done.parameters[0]
    assert done.comparison.size_ratio < 0.7
    pruned = Workdir(run.parent / "pruned").read_run()
    assert (pruned["config"]["network"], pruned["config"]["epochs"]) == ("mien-small:0.5", 1)
    assert pruned["began_with"] == [source_of(run).model_dump()]
    again = prune(run, drawn, keep=0.5, epochs=1, out=run.parent / "pruned", quiet=True)
    assert again.accuracy == done.accuracy
    with pytest.raises(WorkdirError, match="pruned from another model"):
        prune(run, drawn, keep=0.25, epochs=1, out=run.parent / "pruned", quiet=True)
    with pytest.raises(WorkdirError, match="not pruned from this one"):
        prune(run, drawn, keep=0.5, epochs=1, out=run, quiet=True)
    with pytest.raises(ConfigError, match="--epochs 0"):
        prune(run, drawn, keep=0.5, epochs=0, out=run.parent / "none", quiet=True)
    assert not (run.parent / "none").exists()


def test_a_network_built_otherwise_than_today_is_not_pruned(run: Path, drawn: Dataset, tmp_path: Path) -> None:
    earlier = Path(shutil.copytree(run, tmp_path / "earlier"))
    build("mien-base").save(earlier / "best.keras")
    with pytest.raises(WorkdirError, match="another version of the trainer"):
        prune(earlier, drawn, keep=0.5, epochs=1, out=tmp_path / "pruned", quiet=True)
    assert not (tmp_path / "pruned").exists()


def test_what_cannot_be_pruned_is_told(drawn: Dataset, tmp_path: Path) -> None:
    train(TrainConfig(network="mobilenet", epochs=1, batch_size=28), drawn, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="cannot be pruned; these can: mien-small"):
        prune(tmp_path / "run", drawn, 0.5, 1, tmp_path / "out")
    for name in ("mien-small:2", "mien-small:half", "mien-small:0"):
        with pytest.raises(ConfigError, match="share"):
            build(name)


def test_inner_widths_come_in_eights() -> None:
    assert [inner_width(64, share) for share in (1, 0.7, 0.5, 0.01)] == [64, 48, 32, 8]
