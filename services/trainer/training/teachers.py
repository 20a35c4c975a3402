"""Distillation: trained models' predictions become part of a new network's targets (Hinton et al. 2015)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.trainer.data.dataset import Targets
from services.trainer.training.predictors import mirrored, open_predictor
from services.trainer.training.workdir import Workdir
from shared.manifest import MANIFEST_FILE, MODEL_FILE, sha256_of


def taught_targets(teachers: Sequence[Path], faces: npt.NDArray[np.uint8]) -> Targets:
    """(N, 7): the mean prediction of `teachers`, runs or model directories, for each face and its mirror image.

    Raises ModelError or WorkdirError when one holds no model.
    """
    said = [mirrored(open_predictor(teacher))(faces) for teacher in teachers]
    return np.asarray(np.mean(said, axis=0), np.float32)


def teacher_sha256(teacher: Path) -> str:
    """Identifies a teacher, wherever it is stored: the hash of its ONNX file or of its best weights."""
    model = teacher / MODEL_FILE if (teacher / MANIFEST_FILE).exists() else Workdir(teacher).best_model()
    return sha256_of(model)
