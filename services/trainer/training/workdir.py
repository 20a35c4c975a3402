"""A run's folder: what it was started with, its last complete epoch, its best model so far.

run.json         configuration, data hash, commit, versions: what the run is
checkpoint.npz   weights, optimizer and history after the last complete epoch: where it is
best.keras       (or model_file) the weights of the best epoch so far (see merit), averaged where the run averages
history.json     one record per epoch
summary.txt      the network's layers; architecture.json, the same for machines
tensorboard/     event files, where the run writes them
"""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

import keras
import numpy as np
from pydantic import ValidationError

from services.trainer.data.dataset import Dataset
from services.trainer.data.faces import Faces
from services.trainer.errors import WorkdirError
from services.trainer.training.config import TrainConfig
from services.trainer.training.devices import devices_of_kind
from shared.atomic import atomic_file, write_text
from shared.manifest import Source

RUN_FILE: Final = "run.json"
T = TypeVar("T")
History = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run was made from besides its data: foreign weights, another run's, teachers, faces without labels."""

    pretrained: str | None = None
    init_sha256: str | None = None
    began_with: tuple[Source, ...] = ()  # the runs they came from
    teachers: tuple[Source, ...] = ()
    faces: Faces | None = None

    @property
    def about(self) -> dict[str, Any]:
        """Told on cards; no part of what identifies a run."""
        return {
            "began_with": [source.model_dump() for source in self.began_with],
            "teachers": [teacher.model_dump() for teacher in self.teachers],
            "faces": {"name": self.faces.name, "sha256": self.faces.sha256} if self.faces else None,
        }


@dataclass(frozen=True, slots=True)
class Workdir:
    """The folder of one run. Every file in it is written completely or not at all."""

    path: Path

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.npz"

    def claim(self, config: TrainConfig, data: Dataset, origin: Origin) -> None:
        """Make this the folder of a run of `config` on `data` from `origin`, or resume it.

        Raises WorkdirError, naming what differs, when it already is another run's.
        """
        ours = {
            "config": config.model_dump(mode="json"),
            "data_sha256": data.sha256,
            "pretrained": origin.pretrained,
            "init_sha256": origin.init_sha256,
            "teachers_sha256": [teacher.sha256 for teacher in origin.teachers],
        }
        about = {"data": data.name} | origin.about
        if (self.path / RUN_FILE).exists():
            run = self.read_run()
            self._refuse_another(ours, run)
            if new := {name: told for name, told in about.items() if name not in run}:  # to an older trainer's run
                self._write_run(run | new)
            return
        leftovers = [path.name for path in (self.checkpoint, self.tensorboard) if path.exists()]
        if leftovers:
            raise WorkdirError(f"{self.path} holds the {leftovers[0]} of an unknown run. Choose another --workdir.")
        self._write_run(ours | about | _provenance())

    def _write_run(self, run: dict[str, Any]) -> None:
        write_text(self.path / RUN_FILE, json.dumps(run, indent=2) + "\n")

    def _refuse_another(self, ours: dict[str, Any], run: dict[str, Any]) -> None:
        theirs = _with_defaults(run)
        differences = [
            f"{key} is {theirs_value!r} there and {ours_value!r} here"
            for key, ours_value, theirs_value in _pairs(ours, theirs)
            if ours_value != theirs_value
        ]
        if differences:
            raise WorkdirError(
                f"{self.path} belongs to another run: {'; '.join(differences)}. Choose another --workdir."
            )

    def read_run(self) -> dict[str, Any]:
        """What the run was started with. Raises WorkdirError when there is none."""
        try:
            return dict(json.loads((self.path / RUN_FILE).read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise WorkdirError(
                f"{self.path} holds no run. Start one with `python -m services.trainer train`."
            ) from error
        except ValueError as error:
            raise WorkdirError(f"{self.path / RUN_FILE} is damaged: {error}.") from error

    def read_history(self) -> History:
        """One record for each complete epoch so far."""
        path = self.path / "history.json"
        return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []

    def save_epoch(self, model: keras.Model, history: History) -> None:
        """Keep everything the next epoch needs: weights, optimizer state and history."""
        state = {name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(model)}
        with atomic_file(self.checkpoint) as beside:
            np.savez(beside, history=np.array(json.dumps(history)), **state)
        write_text(self.path / "history.json", json.dumps(history, indent=1) + "\n")

    def read_checkpoint_history(self) -> History:
        """The history up to the checkpoint; none where there is no checkpoint. Raises WorkdirError when damaged."""
        return self._read_checkpoint(lambda state: list(json.loads(str(state["history"])))) or []

    def restore(self, model: keras.Model, with_optimizer: bool) -> None:
        """Restore `model`, and optionally its optimizer, to the end of the last complete epoch.

        Raises WorkdirError when the checkpoint is damaged.
        """

        def assign(state: Any) -> None:
            for name, variable in _variables(model):
                if with_optimizer or name.startswith("model"):
                    variable.assign(state[name])

        self._read_checkpoint(assign)

    def _read_checkpoint(self, use: Callable[[Any], T]) -> T | None:
        if not self.checkpoint.exists():
            return None
        try:
            with self.checkpoint.open("rb") as file, np.load(file, allow_pickle=False) as state:
                return use(state)
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise WorkdirError(f"{self.checkpoint} is damaged ({error}). Remove {self.path} to start again.") from error

    def save_best(self, model: keras.Model, name: str) -> None:
        """Keep `model` as the best so far."""
        with atomic_file(self.path / name) as beside:
            model.save(beside, include_optimizer=False)

    def best_model(self) -> Path:
        """The file of the best model so far. Raises WorkdirError when no epoch is complete yet."""
        path: Path = self.path / _with_defaults(self.read_run())["config"]["model_file"]
        # A run killed at the end of its first epoch may have the file, but no complete epoch.
        if not path.exists() or not self.read_history():
            raise WorkdirError(
                f"{self.path} has no trained model yet. Train first, or wait for the end of the first epoch."
            )
        return path

    def load_best(self) -> keras.Model:
        """The best model so far. Raises WorkdirError when no epoch is complete yet."""
        return keras.models.load_model(self.best_model(), compile=False)


def merit(record: dict[str, float], config: TrainConfig) -> float:
    """By what the best epoch is chosen: how well the validation split is answered, in the proportion of the target.

    Accuracy on the labels, and on the raters' consensus as far as their votes are part of what is asked for; two
    answers count alike.
    """
    weight = 0.5 if config.people else config.target.original_weight
    return weight * record["val_accuracy"] + (1 - weight) * record["val_consensus"]


def best_epoch(history: History, config: TrainConfig) -> dict[str, float]:
    """The record with the highest merit, the first among equals.

    Without votes, or where a run began before consensus was recorded, epochs are compared by accuracy alone.
    """
    if all("val_consensus" in record for record in history):
        return max(history, key=lambda record: merit(record, config))
    return max(history, key=lambda record: record["val_accuracy"])


def _variables(model: keras.Model) -> list[tuple[str, Any]]:
    """Everything that training changes, named by position: layer names differ from process to process."""
    return [
        *((f"model{number}", variable) for number, variable in enumerate(model.variables)),
        *((f"optimizer{number}", variable) for number, variable in enumerate(model.optimizer.variables)),
    ]


def _with_defaults(run: dict[str, Any]) -> dict[str, Any]:
    """A run as this trainer reads it: settings that its trainer did not know get their defaults."""
    try:
        return (
            {"pretrained": None, "init_sha256": None, "teachers_sha256": []}
            | run
            | {"config": TrainConfig.model_validate(run["config"]).model_dump(mode="json")}
        )
    except (KeyError, ValidationError) as error:
        raise WorkdirError(f"The run was started by another version of the trainer: {error}.") from error


def _pairs(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted key, ours, theirs) for every leaf of ours."""
    leaves: list[tuple[str, Any, Any]] = []
    for key, value in ours.items():
        other = theirs.get(key)
        if isinstance(value, dict):
            leaves += _pairs(value, other if isinstance(other, dict) else {}, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value, other))
    return leaves


def _provenance() -> dict[str, Any]:
    packages = ("keras", keras.backend.backend(), "numpy", "opencv-python-headless")
    return {
        "commit": _commit(),
        "backend": keras.backend.backend(),
        "device": _device(),
        "versions": {"python": sys.version.split()[0], **{package: version(package) for package in packages}},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _device() -> str:
    """The GPUs that the backend sees, or the CPU."""
    gpus = devices_of_kind("gpu")
    return f"{len(gpus)} GPU" if gpus else "CPU"


def _commit() -> str:
    """The commit of this source tree, with -dirty if it is modified; container images without git set MIEN_COMMIT."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("MIEN_COMMIT", "unknown")
    return head.stdout.strip() + ("-dirty" if status.stdout.strip() else "")
