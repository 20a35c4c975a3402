"""What lives as long as the application: the model, the workers and the metrics, in one object."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from services.api.errors import NotReady
from services.api.settings import Settings
from services.api.telemetry import Telemetry
from services.api.workers import Workers, available_cpus
from shared.analyzer import Analysis, Analyzer, Options
from shared.annotate import annotate
from shared.errors import MienError, ModelError
from shared.manifest import load_manifest
from shared.pipeline.classify import MirroredClassifier, open_classifier
from shared.pipeline.decode import ImageLimits, decode
from shared.pipeline.detect import Detector, HaarDetector, YuNetDetector

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

    def __post_init__(self) -> None:
        self.workers = Workers(self.settings.workers or available_cpus(), self.settings.queue_size)
        self.telemetry.watch(self.workers)

    def load(self) -> None:
        """Load, check and warm up the model, then serve it in place of the one before.

        Where that fails, the one before goes on; without one the service stays up, not ready, and says why.
        """
        cv2.setNumThreads(1)  # the workers share the cores among themselves
        started = time.perf_counter()
        try:
            analyzer = open_analyzer(self.settings)
            warm_up(analyzer)
        except MienError as error:
            self.reason = str(error)
            self.telemetry.model_loads.labels("failed").inc()
            still = f"; still serving {self.analyzer.manifest.version}" if self.analyzer else ""
            _logger.error("the model cannot be served%s: %s", still, error)
            return
        self.analyzer = analyzer
        self.telemetry.served(analyzer, time.perf_counter() - started)
        manifest = analyzer.manifest
        served = {"model": manifest.name, "version": manifest.version, "detector": analyzer.detector.name}
        _logger.info("serving", extra=served)

    def ready(self) -> Analyzer:
        """What answers. Raises NotReady when nothing can."""
        if self.analyzer is None:
            raise NotReady(self.reason)
        return self.analyzer

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

    async def analyze(self, data: bytes, options: Options) -> Analysis:
        """Analyse one encoded image on a worker. Raises ImageError, NotReady or Overloaded."""
        analyzer, came = self.ready(), time.perf_counter()

        def work() -> Analysis:
            waited = time.perf_counter() - came
            analysis = analyzer.analyze(data, options)
            return replace(analysis, timings_s={"queue": waited, **analysis.timings_s})

        analysis = await self.workers.run(work)
        self.telemetry.observe(analysis)
        return analysis

    async def annotate(self, data: bytes, options: Options) -> bytes:
        """The image with its faces drawn on it, as PNG, at its full size. Raises as `analyze` does."""
        analyzer = self.ready()
        whole = replace(analyzer.limits, enough_side_px=analyzer.limits.max_side_px)

        def work() -> tuple[Analysis, bytes]:
            analysis = analyzer.analyze(data, options)
            drawn = annotate(decode(data, whole).pixels, analysis.faces)
            return analysis, cv2.imencode(".png", drawn, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()

        analysis, png = await self.workers.run(work)
        self.telemetry.observe(analysis)
        return png

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
        return YuNetDetector(settings.yunet_model, settings.detect_side_px)
    return HaarDetector(settings.detect_side_px)


def warm_up(analyzer: Analyzer) -> None:
    """Send a picture the whole way once, so that the first request is not the slow one. Raises as `analyze` does."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    analyzer.analyze(data, Options())
    analyzer.analyze(data, Options(detect=False))
