"""One run: scenes in, a network that finds faces out. A run that was stopped continues from where it was saved."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from services.trainer.detector.batches import batch, batches
from services.trainer.detector.config import DetectorConfig
from services.trainer.detector.losses import detector_loss, loss_parts
from services.trainer.detector.network import build
from services.trainer.detector.scenes import Composer
from services.trainer.detector.sources import Sources
from services.trainer.detector.targets import Cells, inside
from services.trainer.errors import TrainingDiverged, WorkdirError
from shared.atomic import atomic_file, write_text

MODEL_FILE: Final = "detector.keras"
STATE_FILE: Final = "state.npz"
RUN_FILE: Final = "run.json"
HISTORY_FILE: Final = "history.jsonl"
VALIDATION_SEED: Final = 1_000_003
EASY: Final = 0.3  # the weight of a place in which nothing looks like a face; one that surely does has 1 more

Report = Callable[[dict[str, float]], None]


@dataclass(slots=True)
class _Run:
    """A model with its optimizer, and how far they are."""

    config: DetectorConfig
    workdir: Path
    model: keras.Model
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def start(cls, config: DetectorConfig, workdir: Path) -> "_Run":
        keras.utils.set_random_seed(config.seed)
        model = build()
        optimizer = keras.optimizers.AdamW(
            config.learning_rate,
            weight_decay=config.weight_decay,
            use_ema=True,
            ema_momentum=config.ema,
            clipnorm=10.0,
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        model.compile(optimizer, loss=detector_loss)
        optimizer.build(model.trainable_variables)
        return cls(config, workdir, model)

    @property
    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]

    def load(self) -> None:
        path = self.workdir / STATE_FILE
        if not path.is_file():
            return
        with np.load(path) as state:
            if len(state.files) != len(self._variables) + 2:
                raise WorkdirError(f"{path} is the state of another network.")
            for number, variable in enumerate(self._variables):
                variable.assign(state[f"v{number}"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])

    def save(self) -> None:
        values = {f"v{n}": keras.ops.convert_to_numpy(variable) for n, variable in enumerate(self._variables)}
        with atomic_file(self.workdir / STATE_FILE) as beside:
            np.savez(beside, step=self.step, seconds=self.seconds, **values)

    def averaged(self, use: Callable[[keras.Model], dict[str, float]]) -> dict[str, float]:
        """What `use` makes of the model with its averaged weights."""
        kept = [keras.ops.convert_to_numpy(variable) for variable in self.model.trainable_variables]
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        try:
            return use(self.model)
        finally:
            for variable, value in zip(self.model.trainable_variables, kept, strict=True):
                variable.assign(value)


def train(config: DetectorConfig, data: Path, workdir: Path, report: Report) -> None:
    """Train to `config.steps`, saving its state and detector.keras in `workdir` at intervals.

    Raises TrainingDiverged when the loss is not a number, WorkdirError when `workdir` holds a run on other data.
    """
    sources = Sources.load(data)
    workdir.mkdir(parents=True, exist_ok=True)
    _remember(config, sources, workdir)
    run = _Run.start(config, workdir)
    run.load()
    places = sources.of("scenes")
    hard = np.full(len(places), 1 / len(places)) if run.step == 0 else _looking_like_faces(run.model, sources, places)
    stream = batches(Composer(sources, config.side_px, hard=hard), config.batch_size, config.seed, run.step)
    losses, started = [], time.monotonic()
    try:
        while run.step < config.steps:
            pictures, targets = next(stream)
            run.model.optimizer.learning_rate.assign(config.rate(run.step))
            losses.append(float(run.model.train_on_batch(pictures, targets)))
            run.step += 1
            if not np.isfinite(losses[-1]):
                raise TrainingDiverged(f"The loss became {losses[-1]} at step {run.step}; the last state is kept.")
            if run.step % config.mine_every == 0:
                hard[:] = _looking_like_faces(run.model, sources, places)
            if run.step % config.save_every == 0 or run.step == config.steps:
                run.seconds += time.monotonic() - started
                started = time.monotonic()
                report(_saved(run, sources, float(np.mean(losses))))
                losses.clear()
    finally:
        stream.close()


def _remember(config: DetectorConfig, sources: Sources, workdir: Path) -> None:
    path = workdir / RUN_FILE
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["data"] != sources.report:
            raise WorkdirError(f"{workdir} holds a run on other data; choose a new folder.")
    write_text(path, json.dumps({"config": config.model_dump(), "data": sources.report}, indent=2) + "\n")


def _saved(run: _Run, sources: Sources, loss: float) -> dict[str, float]:
    """Save state and averaged model, and the model's losses on scenes of held-out pictures."""

    def keep(model: keras.Model) -> dict[str, float]:
        with atomic_file(run.workdir / MODEL_FILE) as beside:
            model.save(beside, include_optimizer=False)
        return _validate(model, sources, run.config)

    record = {"step": run.step, "seconds": round(run.seconds), "loss": round(loss, 4), **run.averaged(keep)}
    run.save()
    with (run.workdir / HISTORY_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    return record


def _validate(model: keras.Model, sources: Sources, config: DetectorConfig) -> dict[str, float]:
    composer = Composer(sources, config.side_px, "calibration")
    parts: dict[str, list[float]] = {}
    for number in range(config.validation_batches):
        pictures, targets = batch(composer, config.batch_size, VALIDATION_SEED, number)
        for name, value in loss_parts(targets, model.predict_on_batch(pictures)).items():
            parts.setdefault(f"val_{name}", []).append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in parts.items()}


def _looking_like_faces(model: keras.Model, sources: Sources, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How often to draw each place: more often where the network sees a face that is none."""
    weights = []
    for number in places:
        source = sources[int(number)]
        height, width = (side // 32 * 32 for side in source.pixels.shape[:2])
        answers = model.predict_on_batch(source.pixels[np.newaxis, :height, :width].astype(np.float32))[0]
        scores = 1 / (1 + np.exp(-np.asarray(answers)[:, 0]))
        if len(source.faces):
            scores[inside(Cells.of(height, width), np.vstack([source.ignored, source.faces[:, :4]]))] = 0
        weights.append(EASY + float(scores.max()))
    return np.asarray(np.array(weights) / np.sum(weights), np.float64)
