"""Drawn faces as FER2013's CSV and as a data file, and a run on them."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.data.prepare import prepare
from services.trainer.training.config import AugmentConfig, OptimizerConfig, TrainConfig
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


@pytest.fixture
def brief() -> TrainConfig:
    """Three epochs of three batches of the network that has one of everything, with every kind of variation."""
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
