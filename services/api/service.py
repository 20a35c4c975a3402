"""What lives as long as the application: the model, the workers and the metrics, in one object."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import cv2
import numpy as np

from services.api.errors import NotReady, Overloaded
from services.api.settings import Settings
from services.api.telemetry import Telemetry
from services.api.workers import Workers, available_cpus
from shared.analyzer import Analysis, Analyzer, Options
from shared.annotate import ImageKind, annotate, encode
from shared.errors import MienError, ModelError
from shared.manifest import load_manifest
from shared.pipeline.classify import MirroredClassifier, open_classifier
from shared.pipeline.decode import ImageLimits, decode
from shared.pipeline.detect import Detector, HaarDetector
from shared.pipeline.yunet import open_yunet

T = TypeVar("T")
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Service:
    """The state of the application. Without an analyzer it is not ready, and `reason` says why."""

    settings: Settings
    telemetry: Telemetry
    workers: Workers = field(init=False)
    analyzer: Analyzer | None = None
    reason: str = "The model is being loaded."
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False  # still answers, but wants no new traffic
    sessions: int = 0
    uploading: int = 0  # bytes of images that arrive or are worked on
    _loading: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.workers = Workers(self.settings.workers or available_cpus(), self.settings.queue_size)
        self.telemetry.watch(self.workers)

    def load(self) -> None:
        """Load, check and warm up the model, then serve it in place of the one before.

        Where that fails, the one before goes on; without one the service stays up, not ready, and says why.
        """
        with self._loading:
            started = time.perf_counter()
            try:
                analyzer = self._checked_analyzer()
            except MienError as error:
                self._refuse(str(error))
                return
            except Exception as error:  # whatever a broken file leads the libraries to: the one before must go on
                self._refuse(f"The model cannot be loaded: {error!r}", exc_info=error)
                return
            self.analyzer = analyzer
            self.telemetry.served(analyzer, time.perf_counter() - started)
            self.telemetry.ready.set(0 if self.draining else 1)
            model = analyzer.model
            _logger.info("serving", extra={"model": model.name, "version": model.version, "detector": model.detector})

    def _checked_analyzer(self) -> Analyzer:
        cv2.setNumThreads(1)  # the workers share the cores among themselves
        analyzer = open_analyzer(self.settings)
        warm_up(analyzer)
        if self.analyzer is None:  # detectors are built for each thread; later ones are built while serving
            self.workers.on_each_thread(lambda: warm_up(analyzer))
        return analyzer

    def _refuse(self, reason: str, exc_info: Exception | None = None) -> None:
        self.reason = reason
        self.telemetry.model_loads.labels("failed").inc()
        still = f"; still serving {self.analyzer.model.version}" if self.analyzer else ""
        _logger.error("the model cannot be served%s: %s", still, reason, exc_info=exc_info)

    def ready(self) -> Analyzer:
        """What answers. Raises NotReady when nothing can."""
        if self.analyzer is None:
            raise NotReady(self.reason)
        return self.analyzer

    def describe(self) -> str:
        """What is served and how faces are found, or why nothing is, for the person who started it."""
        if self.analyzer is None:
            return f"NOT READY: {self.reason}"
        model = self.analyzer.model
        hint = "; `make yunet` fetches YuNet, which is faster and misses fewer" if model.detector == "haar" else ""
        return f"Model {model.name} {model.version}; faces are found by {model.detector}{hint}."

    @contextmanager
    def session(self) -> Iterator[None]:
        """Count a video session for as long as the block lasts."""
        self.sessions += 1
        self.telemetry.sessions.set(self.sessions)
        try:
            yield
        finally:
            self.sessions -= 1
            self.telemetry.sessions.set(self.sessions)

    @contextmanager
    def upload(self, size: int) -> Iterator[None]:
        """Hold room for `size` bytes while they arrive and are worked on. Raises Overloaded where there is none."""
        if self.uploading + size > self.settings.max_pending_bytes:
            raise Overloaded("As many bytes of images arrive as may. Try again in a second.")
        self.uploading += size
        try:
            yield
        finally:
            self.uploading -= size

    async def analyze(self, data: bytes, options: Options) -> Analysis:
        """Analyse one encoded image on a worker. Raises ImageError, NotReady or Overloaded."""
        analyzer = self.ready()
        return (await self._work(lambda: (analyzer.analyze(data, options), None)))[0]

    async def annotate(self, data: bytes, options: Options, kind: ImageKind) -> bytes:
        """The image with its faces drawn on it, at its full size. Raises as `analyze` does."""
        analyzer = self.ready()
        whole = replace(analyzer.limits, enough_side_px=analyzer.limits.max_side_px)

        def work() -> tuple[Analysis, bytes]:
            analysis = analyzer.analyze(data, options)
            return analysis, encode(annotate(decode(data, whole).pixels, analysis.faces), kind)

        return (await self._work(work))[1]

    async def _work(self, function: Callable[[], tuple[Analysis, T]]) -> tuple[Analysis, T]:
        """Run `function` on a worker, and count its analysis with the time that it waited."""
        came = time.perf_counter()

        def timed() -> tuple[Analysis, T]:
            waited = time.perf_counter() - came
            analysis, more = function()
            return replace(analysis, timings_s={"queue": waited, **analysis.timings_s}), more

        analysis, more = await self.workers.run(timed)
        self.telemetry.observe(analysis)
        return analysis, more

    def stop(self) -> None:
        """Be not ready from now on, and let video sessions end; what was accepted still finishes."""
        self.draining = True
        self.stopping.set()
        self.telemetry.ready.set(0)

    def close(self) -> None:
        """Let what was accepted finish."""
        self.stop()
        self.workers.close()


def open_analyzer(settings: Settings) -> Analyzer:
    """The analyzer that `settings` describe, its model checked. Raises ModelError or DetectorError."""
    manifest = load_manifest(settings.model)
    detector = open_detector(settings)
    if detector.name not in manifest.crop:
        raise ModelError(f"{settings.model} has no crop measured for the detector '{detector.name}'.")
    providers = [name.strip() for name in settings.providers.split(",")]
    classifier = open_classifier(settings.model, manifest, threads=1, providers=providers)
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_side_px, settings.detect_side_px)
    return Analyzer(manifest, MirroredClassifier(classifier) if settings.flip else classifier, detector, limits)


def open_detector(settings: Settings) -> Detector:
    """The detector asked for; auto takes YuNet where its file is. Raises DetectorError."""
    if settings.detector == "yunet" or (settings.detector == "auto" and settings.yunet_model.is_file()):
        return open_yunet(settings.yunet_model, settings.detect_side_px)
    return HaarDetector(settings.detect_side_px)


def warm_up(analyzer: Analyzer) -> None:
    """Send a picture the whole way once, so that the first request is not the slow one. Raises as `analyze` does."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    analyzer.analyze(data, Options())
    analyzer.analyze(data, Options(detect=False))
