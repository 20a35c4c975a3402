"""Every metric of the service. Labels are bounded: a route template, a stage, an emotion; never a path or an id."""

import contextlib
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import RestrictedRegistry

from services.api.jobs import Done, Ready
from shared.analysis import STAGES
from shared.emotions import EMOTIONS

# From a tiny image to a slow machine under load, in seconds.
_LATENCY_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_STAGE_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.035, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_FACES_BUCKETS: Final = (0, 1, 2, 3, 5, 10, 20, 50)
_RECORDED_TOGETHER: Final = 100  # events; recorded one right after another, each takes less than half the time
_REJECTIONS: Final = ("overloaded", "not_ready", "unauthorized", "rate_limited", "sessions", "origin")


class Load(Protocol):
    """The workers' load, read at each scrape."""

    @property
    def count(self) -> int: ...

    @property
    def busy(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def replaced(self) -> int: ...

    @property
    def memory_bytes(self) -> int: ...


class Memory(Protocol):
    """The shared budget, read at each scrape."""

    @property
    def used(self) -> int: ...


class _Registry(CollectorRegistry):
    """A registry that brings its metrics up to date before anyone reads them."""

    def __init__(self, update: Callable[[], None]) -> None:
        super().__init__()
        self._update = update

    def collect(self) -> Iterable[Metric]:
        self._update()
        return super().collect()

    def restricted_registry(self, names: Iterable[str]) -> RestrictedRegistry:
        self._update()
        return super().restricted_registry(names)


class Telemetry:
    """The metrics of one application, on its own registry."""

    def __init__(self) -> None:
        disable_created_metrics()  # a second series for each counter, which our queries do not use
        self.registry = registry = _Registry(self._record)
        self._unrecorded: deque[Callable[[], None]] = deque()
        ProcessCollector(registry=registry)
        Info("mien_build", "What this process runs on.", registry=registry).info({"python": platform.python_version()})
        self._traced: bool | None = None
        self._http()
        self._images()
        self._streams()
        self._workers()
        self._model()

    def _http(self) -> None:
        labels = ["route", "method", "status"]  # status by class: 2xx
        self.requests = Counter("mien_http_requests", "HTTP requests answered.", labels, registry=self.registry)
        self.request_seconds = Histogram(
            "mien_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            labels,
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._by_route: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self.in_flight = Gauge("mien_http_in_flight", "HTTP requests being answered.", registry=self.registry)
        self.errors = Counter(
            "mien_errors", "Requests answered with an error, by code.", ["code"], registry=self.registry
        )
        self.errors.labels("internal")  # a rate needs a zero before the first error
        self.rejected = Counter(
            "mien_rejected", "Requests and sessions turned away, by reason.", ["reason"], registry=self.registry
        )
        for reason in _REJECTIONS:
            self.rejected.labels(reason)

    def _images(self) -> None:
        self.stage_seconds = Histogram(
            "mien_stage_duration_seconds",
            "Time in one stage: waiting for a worker (queue), decode, detect, crop, classify.",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )
        self.faces = Histogram(
            "mien_faces_per_image", "Faces found in an image.", buckets=_FACES_BUCKETS, registry=self.registry
        )
        self.batch = Histogram(
            "mien_classify_batch_size",
            "Faces in one call of the model.",
            buckets=_FACES_BUCKETS[1:],
            registry=self.registry,
        )
        self.predictions = Counter(
            "mien_predictions", "Faces by their top emotion.", ["emotion"], registry=self.registry
        )
        self.top_probability = Histogram(
            "mien_top_probability",
            "Probability of the top emotion of a face; its mean falls when pictures drift away from the training data.",
            buckets=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1),
            registry=self.registry,
        )
        # Looked up once: every request needs them.
        self._by_stage = {stage: self.stage_seconds.labels(stage) for stage in ("queue", *STAGES)}
        self._by_emotion = {emotion: self.predictions.labels(emotion) for emotion in EMOTIONS}

    def _streams(self) -> None:
        self.sessions = Gauge("mien_stream_sessions", "Open video sessions.", registry=self.registry)
        self.frames = Counter("mien_stream_frames", "Video frames by outcome.", ["outcome"], registry=self.registry)
        self.frames_dropped = Counter(
            "mien_stream_frames_dropped", "Video frames dropped, by reason.", ["reason"], registry=self.registry
        )
        self.frame_lag_seconds = Histogram(
            "mien_stream_lag_seconds",
            "From the arrival of a video frame to its answer.",
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        for outcome in ("received", "answered", "failed"):
            self.frames.labels(outcome)
        for reason in ("newer", "overload"):
            self.frames_dropped.labels(reason)

    def _model(self) -> None:
        self.ready = Gauge("mien_ready", "1 while images are answered.", registry=self.registry)
        self.model_info = Info("mien_model", "The model served.", registry=self.registry)
        self.model_load_seconds = Gauge(
            "mien_model_load_seconds",
            "How long the served model took to load, verify and warm up.",
            registry=self.registry,
        )
        self.model_loads = Counter(
            "mien_model_loads", "Models loaded at start and on SIGHUP, by result.", ["result"], registry=self.registry
        )
        for result in ("ok", "failed"):
            self.model_loads.labels(result)

    def _workers(self) -> None:
        self.workers = Gauge("mien_workers", "Images that can be analyzed at once.", registry=self.registry)
        self.workers_busy = Gauge("mien_workers_busy", "Images being analyzed.", registry=self.registry)
        self.queue_depth = Gauge("mien_queue_depth", "Images waiting for a worker.", registry=self.registry)
        self.replaced = Gauge(
            "mien_workers_replaced", "Workers killed at a deadline or ended, and replaced.", registry=self.registry
        )
        self.workers_memory = Gauge(
            "mien_workers_memory_bytes",
            "Memory of the worker processes together; what they share counts once.",
            registry=self.registry,
        )
        self.memory_used = Gauge(
            "mien_pending_bytes", "Memory held by uploads, frames and decoding.", registry=self.registry
        )

    def watch(self, load: Load, memory: Memory) -> None:
        """Ask at each scrape how busy the workers are, and how much memory is held."""
        self.workers.set_function(lambda: load.count)
        self.workers_busy.set_function(lambda: load.busy)
        self.queue_depth.set_function(lambda: load.waiting)
        self.workers_memory.set_function(lambda: load.memory_bytes)
        self.replaced.set_function(lambda: load.replaced)
        self.memory_used.set_function(lambda: memory.used)

    def served(self, served: Ready, load_s: float) -> None:
        """Record which model and detector answer from now on."""
        model = served.model
        self.model_info.info({"name": model.name, "version": model.version, "detector": model.detector})
        self.model_load_seconds.set(load_s)
        self.model_loads.labels("ok").inc()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Record one request that was answered."""
        self._later(partial(self._record_request, (route, method, f"{status // 100}xx"), seconds))

    def turned_away(self, route: str, status: int, code: str) -> None:
        """Record one request that was refused before it reached the application."""
        self.answered(route, "POST", status, 0.0)
        self.refused(code)

    def refused(self, code: str) -> None:
        """Record one error, and a rejection if it is one."""
        self._later(partial(self._record_error, code))

    @property
    def traced(self) -> bool:
        """Whether anyone collects traces; ask when the application has started."""
        if self._traced is None:
            self._traced = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        return self._traced

    def observe(self, done: Done) -> None:
        """Record one analyzed image, and trace its stages where traces are collected."""
        self._later(partial(self._record_image, done))
        if self.traced:
            _trace(done.timings_s)

    def _later(self, record: Callable[[], None]) -> None:
        self._unrecorded.append(record)
        if len(self._unrecorded) >= _RECORDED_TOGETHER:
            self._record()

    def _record(self) -> None:
        with contextlib.suppress(IndexError):  # two threads may be here, where metrics have their own port
            while self._unrecorded:
                self._unrecorded.popleft()()

    def _record_request(self, labels: tuple[str, str, str], seconds: float) -> None:
        known = self._by_route.get(labels)
        if known is None:
            known = self.requests.labels(*labels), self.request_seconds.labels(*labels)
            self._by_route[labels] = known
        known[0].inc()
        known[1].observe(seconds)

    def _record_error(self, code: str) -> None:
        self.errors.labels(code).inc()
        if code in _REJECTIONS:
            self.rejected.labels(code).inc()

    def _record_image(self, done: Done) -> None:
        for stage, seconds in done.timings_s.items():
            self._by_stage[stage].observe(seconds)
        self.faces.observe(len(done.tops))
        if done.tops:
            self.batch.observe(len(done.tops))
        for emotion, probability in done.tops:
            self._by_emotion[emotion].inc()
            self.top_probability.observe(probability)


def _trace(timings_s: dict[str, float]) -> None:
    """A span per stage, below the request's. The stages ran one after another and have just ended."""
    tracer = trace.get_tracer("mien")
    at_ns = time.time_ns() - round(sum(timings_s.values()) * 1e9)
    for stage, seconds in timings_s.items():
        span = tracer.start_span(stage, start_time=at_ns)
        at_ns += round(seconds * 1e9)
        span.end(at_ns)
