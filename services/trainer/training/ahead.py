"""Batches made ahead by several processes: a GPU learns faster than one process can vary faces."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from services.trainer.errors import TrainingInterrupted
from services.trainer.training.batches import Batches, TrainingBatches

_AHEAD: Final = 2  # batches asked of each worker before they are needed


@contextmanager
def made_ahead(batches: TrainingBatches, workers: int) -> Iterator[Batches]:
    """Within the block, the same batches in the same order, made by `workers` processes where there are several.

    Raises TrainingInterrupted when one of them dies.
    """
    if workers <= 1:
        yield batches
        return
    spawn = get_context("spawn")  # a backend's threads do not survive a fork
    pipes = [spawn.Pipe() for _ in range(workers)]
    processes = [spawn.Process(target=_work, args=(theirs, batches), daemon=True) for _, theirs in pipes]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()  # so that the pipe ends with its worker
    made = _MadeAhead(batches, [ours for ours, _ in pipes])
    try:
        yield made
    except Exception as error:  # backends wrap what their data raise, each in its own way
        if not made.broken:
            raise
        raise TrainingInterrupted(
            "A process that makes batches died, often for lack of memory. The last complete epoch is kept: "
            "the same command goes on from there, and fewer --workers take less memory."
        ) from error
    finally:
        for process in processes:
            process.terminate()
            process.join()


class _MadeAhead(keras.utils.PyDataset):  # type: ignore[misc] # Keras ships no types
    """What Keras reads in place of the batches themselves.

    The workers take turns. Each has its own pipe and answers in order, so the next batch always comes from the next pipe.
    """

    def __init__(self, batches: TrainingBatches, pipes: list[Connection]) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.epoch = 0
        self.broken = False
        self._batches, self._pipes = batches, pipes
        # Batches are counted through all epochs: those from `_next` and before `_asked` are on their way.
        self._next = self._asked = 0

    @property
    def frequencies(self) -> npt.NDArray[np.float64]:
        return self._batches.frequencies

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        try:
            wanted = self.epoch * len(self) + index
            if wanted != self._next:
                self._start_over(wanted)
            while self._asked < wanted + _AHEAD * len(self._pipes):
                self._worker(self._asked).send(divmod(self._asked, len(self)))
                self._asked += 1
            return self._read()
        except (EOFError, OSError):
            self.broken = True
            raise

    def _start_over(self, number: int) -> None:
        """Drop the batches already asked for: Keras reads two to learn their shapes, then starts at the run's own epoch."""
        while self._next < self._asked:
            self._read()
        self._next = self._asked = number

    def _read(self) -> tuple[Any, ...]:
        batch: tuple[Any, ...] = self._worker(self._next).recv()
        self._next += 1
        return batch

    def _worker(self, number: int) -> Connection:
        return self._pipes[number % len(self._pipes)]


def _work(trainer: Connection, batches: TrainingBatches) -> None:
    """In a worker: make the batches that the trainer asks for, until it ends or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the trainer ends its own
    try:
        while True:
            batches.epoch, index = trainer.recv()
            trainer.send(batches[index])
    except (EOFError, OSError):
        return
