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

from services.api.faults import NotReady, Overloaded
from services.api.schemas import prior_of
from services.api.settings import Settings
from services.api.telemetry import Telemetry
from services.api.workers import Workers, available_cpus
from shared.analyzer import Analysis, Analyzer, Options
from shared.annotate import ImageKind, annotate, encode
from shared.answers import Prior
from shared.assembly import open_analyzer
from shared.errors import MienError
from shared.manifest import ModelManifest
from shared.pipeline.decode import ImageLimits, decode

T = TypeVar("T")
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Service:
    """The state of the application. Without an analyzer it is not ready, and `reason` says why."""

    settings: Settings
    telemetry: Telemetry
    workers: Workers = field(init=False)
    analyzer: Analyzer | None = None
    reason: str = "The model is loading."
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False  # still answers, but wants no new clients
    sessions: int = 0
    uploading: int = 0  # bytes of images being uploaded or analyzed
    _loading: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.workers = Workers(self.settings.workers or available_cpus(), self.settings.queue_size)
        self.telemetry.watch(self.workers)

    def load(self) -> None:
        """Load, verify and warm up the model, then serve it in place of the current one.

        If that fails, the current one stays; without one the service stays up, not ready, and says why.
        """
        with self._loading:
            started = time.perf_counter()
            try:
                analyzer = self._verified_analyzer()
            except MienError as error:
                self._refuse(str(error))
                return
            except Exception as error:  # libraries raise anything on a broken file; the current model must stay
                self._refuse(f"The model fails to load: {error!r}", exc_info=error)
                return
            self.analyzer = analyzer
            self.telemetry.served(analyzer, time.perf_counter() - started)
            self.telemetry.ready.set(0 if self.draining else 1)
            model = analyzer.model
            _logger.info("serving", extra={"model": model.name, "version": model.version, "detector": model.detector})

    def _verified_analyzer(self) -> Analyzer:
        cv2.setNumThreads(1)  # the workers share the cores
        analyzer = analyzer_of(self.settings)
        analyzer.check(_defaults(self.settings, analyzer.manifest))
        warm_up(analyzer)
        if self.analyzer is None:  # detectors are built per thread; after a swap, while serving
            self.workers.on_each_thread(lambda: warm_up(analyzer))
        return analyzer

    def _refuse(self, reason: str, exc_info: Exception | None = None) -> None:
        self.reason = reason
        self.telemetry.model_loads.labels("failed").inc()
        still = f"; still serving {self.analyzer.model.version}" if self.analyzer else ""
        _logger.error("the model cannot be served%s: %s", still, reason, exc_info=exc_info)

    def ready(self) -> Analyzer:
        """The analyzer that is served. Raises NotReady when there is none."""
        if self.analyzer is None:
            raise NotReady(self.reason)
        return self.analyzer

    def defaults(self) -> Options:
        """What a request gets unless it asks otherwise. Raises NotReady."""
        return _defaults(self.settings, self.ready().manifest)

    def check(self, options: Options) -> None:
        """Raise UnknownAnswer or UnusablePrior if the model cannot give what `options` ask for, or NotReady."""
        self.ready().check(options)

    def describe(self) -> str:
        """Which model and detector are served, or why none is, for the person who started the service."""
        if self.analyzer is None:
            return f"NOT READY: {self.reason}"
        model = self.analyzer.model
        hint = (
            "; `make yunet` fetches YuNet, which is faster and misses fewer faces" if model.detector == "haar" else ""
        )
        return f"Model {model.name} {model.version}; face detector {model.detector}{hint}."

    @contextmanager
    def session(self) -> Iterator[None]:
        """Count a video session while the block lasts."""
        self.sessions += 1
        self.telemetry.sessions.set(self.sessions)
        try:
            yield
        finally:
            self.sessions -= 1
            self.telemetry.sessions.set(self.sessions)

    @contextmanager
    def upload(self, size: int) -> Iterator[None]:
        """Reserve `size` bytes while they are uploaded and analyzed. Raises Overloaded when there is no room."""
        if self.uploading + size > self.settings.max_pending_bytes:
            raise Overloaded(f"Upload capacity is full: {self.uploading:,} bytes are being uploaded or analyzed.")
        self.uploading += size
        try:
            yield
        finally:
            self.uploading -= size

    async def analyze(self, data: bytes, options: Options, analyzer: Analyzer | None = None) -> Analysis:
        """Analyze one encoded image on a worker, with `analyzer` where given and otherwise with the one served now.

        Raises ImageError, NotReady or Overloaded.
        """
        analyzer = analyzer or self.ready()
        return (await self._work(lambda: (analyzer.analyze(data, options), None)))[0]

    async def annotate(
        self, data: bytes, options: Options, kind: ImageKind, points: bool = False
    ) -> tuple[Analysis, bytes]:
        """The analysis, and the image at full size with its faces drawn on it, with `points` their landmarks too. Raises as `analyze` does."""
        analyzer = self.ready()
        whole = replace(analyzer.limits, target_side_px=analyzer.limits.max_side_px)

        def work() -> tuple[Analysis, bytes]:
            analysis = analyzer.analyze(data, options)
            return analysis, encode(annotate(decode(data, whole).pixels, analysis.faces, points), kind)

        return await self._work(work)

    async def _work(self, function: Callable[[], tuple[Analysis, T]]) -> tuple[Analysis, T]:
        """Run `function` on a worker, and record its analysis with the time it waited."""
        submitted = time.perf_counter()

        def timed() -> tuple[Analysis, T]:
            waited = time.perf_counter() - submitted
            analysis, more = function()
            return replace(analysis, timings_s={"queue": waited, **analysis.timings_s}), more

        analysis, more = await self.workers.run(timed)
        self.telemetry.observe(analysis)
        return analysis, more

    def stop(self) -> None:
        """Stop being ready and end video sessions; accepted requests still finish. Call it on the event loop."""
        self.draining = True
        self.stopping.set()
        self.telemetry.ready.set(0)

    async def close(self) -> None:
        """Stop, and wait for accepted work to finish."""
        self.stop()
        await asyncio.to_thread(self.workers.close)


def analyzer_of(settings: Settings) -> Analyzer:
    """The analyzer that `settings` describe, its model verified. Raises ModelError or DetectorError."""
    return open_analyzer(
        settings.model,
        settings.detector,
        settings.detector_files,
        ImageLimits(settings.max_image_pixels, settings.max_image_side_px, settings.detect_side_px),
        providers=[name.strip() for name in settings.providers.split(",")],
        mirror=settings.flip,
    )


def _defaults(settings: Settings, manifest: ModelManifest) -> Options:
    """Settings first, then what the manifest says; its prior is that of its own default answer."""
    answer = settings.answer or manifest.default_answer
    prior: Prior = manifest.default_prior.kind if answer == manifest.default_answer else "natural"
    return Options(
        max_faces=settings.max_faces,
        min_confidence=settings.min_confidence,
        min_face=settings.min_face,
        answer=answer,
        prior=prior_of(settings.prior) if settings.prior else prior,
    )


def warm_up(analyzer: Analyzer) -> None:
    """Analyze a generated picture once, so that the first request is not slow. Raises as `analyze` does."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    analyzer.analyze(data, Options())
    analyzer.analyze(data, Options(detect=False))
