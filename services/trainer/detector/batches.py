"""Batches of scenes with their targets, made in the background while the network learns."""

import queue
import threading
from collections.abc import Generator
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from services.trainer.detector.scenes import Composer
from services.trainer.detector.targets import Cells, Targets, targets

AHEAD: Final = 8  # batches that wait
Pictures: TypeAlias = npt.NDArray[np.float32]  # (N, side, side, 3), 0 to 255


def batch(composer: Composer, size: int, seed: int, number: int) -> tuple[Pictures, Targets]:
    """The batch of this number: pictures (size, side, side, 3), targets (size, cells, 17)."""
    rng = np.random.default_rng((seed, number))
    cells = Cells.of(composer.side, composer.side)
    scenes = [composer.scene(rng) for _ in range(size)]
    pictures = np.stack([scene.pixels for scene in scenes]).astype(np.float32)
    return pictures, np.stack([targets(cells, scene.faces, scene.ignored) for scene in scenes])


def batches(composer: Composer, size: int, seed: int, first: int) -> Generator[tuple[Pictures, Targets], None, None]:
    """The batches from number `first` on, without end; close the iterator to end the thread that makes them."""
    ready: queue.Queue[tuple[Pictures, Targets] | BaseException] = queue.Queue(AHEAD)
    stop = threading.Event()

    def make() -> None:
        number = first
        while not stop.is_set():
            try:
                item: tuple[Pictures, Targets] | BaseException = batch(composer, size, seed, number)
            except BaseException as error:  # handed to whoever waits for the batch
                item = error
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.5)
                    break
                except queue.Full:
                    continue
            number += 1

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
