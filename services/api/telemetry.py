"""Every metric that the service keeps. Labels are bounded: a route template, a stage, an emotion; no path, no id."""

import platform
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

from shared.analyzer import Analysis, Analyzer
from shared.emotions import EMOTIONS

# From a tiny image to a slow machine under load, in seconds.
_LATENCY_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_STAGE_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.035, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Telemetry:
    """The metrics of one application, on its own registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # a second series for each counter, which no query of ours needs
        self.registry = registry
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "mien_http_requests", "HTTP requests answered.", ["route", "method", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "mien_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route", "method"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "mien_stage_duration_seconds",
            "Time in one stage: waiting for a worker (queue), decode, detect, crop, classify.",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.faces = Histogram(
            "mien_faces_per_image", "Faces found in an image.", buckets=(0, 1, 2, 3, 5, 10, 20, 50), registry=registry
        )
        self.predictions = Counter("mien_predictions", "Faces by their top emotion.", ["emotion"], registry=registry)
        self.errors = Counter(
            "mien_errors", "Requests answered with an error, by its code.", ["code"], registry=registry
        )
        self.sessions = Gauge("mien_stream_sessions", "Video sessions that are open.", registry=registry)
        self.frames = Counter(
            "mien_stream_frames", "Video frames by what became of them.", ["outcome"], registry=registry
        )
        self.frames_dropped = Counter(
            "mien_stream_frames_dropped", "Video frames passed over, by reason.", ["reason"], registry=registry
        )
        self.frame_lag_seconds = Histogram(
            "mien_stream_lag_seconds",
            "From the arrival of a video frame to its answer.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.ready = Gauge("mien_ready", "1 while images are answered.", registry=registry)
        self.model_info = Info("mien_model", "The model that is served.", registry=registry)
        Info("mien_build", "What this process runs on.", registry=registry).info({"python": platform.python_version()})
        for emotion in EMOTIONS:  # a rate needs the zero before the first
            self.predictions.labels(emotion)
        for outcome in ("received", "answered", "failed"):
            self.frames.labels(outcome)
        for reason in ("newer", "overload"):
            self.frames_dropped.labels(reason)

    def served(self, analyzer: Analyzer) -> None:
        """Note which model and detector answer from now on."""
        manifest = analyzer.manifest
        self.model_info.info({"name": manifest.name, "version": manifest.version, "detector": analyzer.detector.name})
        self.ready.set(1)

    def observe(self, analysis: Analysis) -> None:
        """Count one analysed image."""
        for stage, seconds in analysis.timings_s.items():
            self.stage_seconds.labels(stage).observe(seconds)
        self.faces.observe(len(analysis.faces))
        for face in analysis.faces:
            self.predictions.labels(face.emotion).inc()
