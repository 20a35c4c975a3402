"""Drawn faces as FER2013's CSV and as a data file, and a run on them."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from services.trainer.data.dataset import Dataset
from services.trainer.data.prepare import prepare
from services.trainer.training.config import AugmentConfig, OptimizerConfig, TrainConfig
from services.trainer.training.networks import NETWORKS
from tests.drawn import write_csv


@pytest.fixture(scope="session")
def drawn_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"Training": 8, "PublicTest": 3, "PrivateTest": 3}
    return write_csv(tmp_path_factory.mktemp("drawn") / "faces.csv", counts)


@pytest.fixture(scope="session")
def drawn(drawn_csv: Path) -> Dataset:
    """98 drawn faces: 8, 3 and 3 of each class in the three splits."""
    out = drawn_csv.with_suffix(".npz")
    prepare(drawn_csv, None, out)
    return Dataset.load(out)


def _tiny() -> keras.Model:
    faces = keras.Input((48, 48, 1))
    x = layers.Conv2D(4, 5, strides=4, activation="relu")(faces)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(faces, layers.Dense(7, activation="softmax")(x))


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """Three epochs of three batches of a tiny network that has one of everything, with every kind of variation."""
    monkeypatch.setitem(NETWORKS, "tiny", _tiny)
    return TrainConfig(
        network="tiny",
        seed=3,
        epochs=3,
        batch_size=16,
        optimizer=OptimizerConfig(warmup_epochs=1, ema=0.9),
        augment=AugmentConfig(flip=True, rotation_deg=10, shift_px=2, erase_share=0.5, mixup_alpha=0.2),
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
