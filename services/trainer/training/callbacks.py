"""What happens during training besides the steps: validation, checkpoints, progress, early stopping."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from services.trainer.data.dataset import Dataset
from services.trainer.errors import TrainingDiverged
from services.trainer.training.config import TrainConfig
from services.trainer.training.metrics import negative_log_likelihood
from services.trainer.training.networks import build
from services.trainer.training.predictors import HEADS, for_head, keras_predictor
from services.trainer.training.workdir import History, Workdir, best_epoch


class EpochEnd(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """Validates, records, keeps the best model and the checkpoint, and stops when patience is over."""

    def __init__(
        self, home: Workdir, validation: Dataset, history: History, config: TrainConfig, patient_since: int
    ) -> None:
        """`patient_since`: the epoch from which patience counts; what came before had another optimizer."""
        super().__init__()
        self._home, self._history, self._config, self._since = home, history, config, patient_since
        self._validation = validation
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        with averaged_weights(self.model):
            logs.update(self._validate(epoch))
            if "labels_accuracy" in logs:  # of two answers
                logs["accuracy"] = logs["labels_accuracy"]
            record = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
            self._history.append(record | {"seconds": round(time.perf_counter() - self._started, 1)})
            if best_epoch(self._history, self._config)["epoch"] == epoch + 1:
                self._home.save_best(_portable(self.model, self._config), self._config.model_file)
        # The checkpoint comes last: an epoch counts only once everything it made is kept.
        self._home.save_epoch(self.model, self._history)
        self.model.stop_training = self.patience_is_over()

    def patience_is_over(self) -> bool:
        """Whether the validation loss has failed to fall for as many epochs as the configuration allows."""
        patience = self._config.early_stopping_patience
        losses = [record["val_loss"] for record in self._history[self._since :]]
        return patience is not None and bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= patience

    def _validate(self, epoch: int) -> dict[str, float]:
        """Likelihood and accuracy on the validation split, also on the raters' consensus where there are votes.

        Of two answers, labels are scored on labels and people on consensus. Raises TrainingDiverged when they are not finite.
        """
        labels = self._validation.labels
        answers = keras_predictor(self.model)(self._validation.pixels)
        probabilities, people = (for_head(answers, name) for name in HEADS)
        loss = negative_log_likelihood(probabilities, labels)
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The validation loss became {loss} at the end of epoch {epoch + 1}. {_kept(epoch)}; "
                "try a lower learning_rate in a new --workdir."
            )
        consensus = self._validation.consensus
        scores = {"val_loss": loss, "val_accuracy": float((probabilities.argmax(axis=1) == labels).mean())}
        agreed = consensus >= 0
        if agreed.any():
            scores["val_consensus"] = float((people.argmax(axis=1) == consensus)[agreed].mean())
        return scores


class StopOnNaN(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """Ends the run at the first batch with a NaN or infinite loss, before it can become a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        if not math.isfinite(logs["loss"]):
            raise TrainingDiverged(
                f"The loss became {logs['loss']} at epoch {self._epoch + 1}, batch {batch + 1}. {_kept(self._epoch)}; "
                "try a lower learning_rate in a new --workdir."
            )


class Progress(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """A bar over the whole run with the time left, and a lasting line per epoch."""

    def __init__(self, quiet: bool, epochs: int) -> None:
        super().__init__()
        self._quiet, self._epochs = quiet, epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        steps = self.params["steps"]
        if not hasattr(self, "_bar"):
            self._bar = tqdm(
                total=steps * self._epochs,
                initial=epoch * steps,
                unit="batch",
                disable=self._quiet,
                smoothing=0.02,
                mininterval=1,
            )
        self._bar.set_description(f"epoch {epoch + 1}/{self._epochs}")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        accuracy = logs.get("accuracy", logs.get("labels_accuracy", 0.0))
        self._bar.set_postfix(loss=f"{logs['loss']:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        line = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        if not self._quiet:
            self._bar.write(f"epoch {epoch + 1:3d}  {line}")

    def close(self) -> None:
        """End the line of the bar, whether training ended well or not."""
        if hasattr(self, "_bar"):
            self._bar.close()


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Within the block, the weights averaged over steps, if the optimizer averages them."""
    if not getattr(model.optimizer, "inner_optimizer", model.optimizer).use_ema:
        yield
        return
    current = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    # Copies: on JAX the model would otherwise share its arrays with the optimizer, which deletes them.
    model.set_weights([np.array(weight) for weight in model.get_weights()])
    try:
        yield
    finally:
        model.set_weights(current)


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Layers built within the block compute in `precision`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _kept(epoch: int) -> str:
    return f"Epoch {epoch} is kept" if epoch else "No epoch was complete"


def _portable(model: keras.Model, config: TrainConfig) -> keras.Model:
    """The same network in float32, as exports and other readers expect, without the optimizer and its three copies."""
    with computing_in("float32"):
        copy = build(config.network, heads=[] if len(model.outputs) == 1 else HEADS)
    copy.set_weights(model.get_weights())
    return copy
