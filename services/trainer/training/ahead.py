"""Batches made ahead by several processes: a GPU learns faster than one process can vary faces."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from services.trainer.training.batches import TrainingBatches

_AHEAD_PER_WORKER: Final = 3


@contextmanager
def made_ahead(batches: TrainingBatches, workers: int) -> Iterator["TrainingBatches | _MadeAhead"]:
    """Within the block, the same batches in the same order, made by `workers` processes where there are several."""
    if workers <= 1:
        yield batches
        return
    # Spawned, not forked: a backend's threads do not survive a fork.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_keep, initargs=(batches,))
    try:
        yield _MadeAhead(batches, pool, workers * _AHEAD_PER_WORKER)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _MadeAhead(keras.utils.PyDataset):  # type: ignore[misc] # Keras ships no types
    """What Keras reads in place of the batches themselves."""

    def __init__(self, batches: TrainingBatches, pool: ProcessPoolExecutor, ahead: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.epoch = 0
        self._batches, self._pool, self._ahead = batches, pool, ahead
        self._coming: dict[tuple[int, int], Future[tuple[Any, ...]]] = {}

    @property
    def frequencies(self) -> npt.NDArray[np.float64]:
        return self._batches.frequencies

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        wanted = [divmod(self.epoch * len(self) + index + step, len(self)) for step in range(self._ahead)]
        for place in wanted:
            if place not in self._coming:
                self._coming[place] = self._pool.submit(_make, *place)
        for place in self._coming.keys() - set(wanted):  # of an epoch that ended early
            self._coming.pop(place).cancel()
        return self._coming.pop(wanted[0]).result()


def _keep(batches: TrainingBatches) -> None:
    """In a worker: what it makes batches of."""
    global _batches
    _batches = batches
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the trainer ends its own
    threading.Thread(target=_end_with_trainer, daemon=True).start()


def _end_with_trainer() -> None:
    """A killed trainer closes no pool, and a worker would wait for work forever."""
    trainer = parent_process()
    if trainer is not None:
        trainer.join()
        os._exit(1)


def _make(epoch: int, index: int) -> tuple[Any, ...]:
    _batches.epoch = epoch
    return _batches[index]


_batches: TrainingBatches
