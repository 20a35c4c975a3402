"""What lives as long as the application: the model, the workers and the metrics, in one object."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from services.api.budget import Budget
from services.api.cpus import available_cpus
from services.api.faults import NotReady
from services.api.jobs import Assembly, Done, Job, Ready
from services.api.launch import COMMAND, Launched
from services.api.rates import Rates
from services.api.schemas import PredictQuery, prior_of
from services.api.settings import Settings
from services.api.telemetry import Telemetry
from services.api.workers import Lane, Workers
from shared.analysis import Analysis, Options
from shared.answers import Prior
from shared.choices import Choices
from shared.emotions import EMOTIONS
from shared.errors import MienError
from shared.manifest import ModelManifest
from shared.pictures import ImageKind, ImageLimits

_LOAD_TIMEOUT_S: Final = 60.0
_MAX_STRANGERS: Final = 16
_BYTES_PER_COST: Final = 125_000  # decoding so many takes as long as all of a small image
_LARGE_COST: Final = 5  # images that cost so much wait in a lane of their own (docs/adr/0010)
_MAX_KNOWN_QUERIES: Final = 256
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded image as it was sent, perhaps in base64 still."""

    data: bytes
    base64: bool = False


@dataclass(slots=True)
class Service:
    """The state of the application. Without a model it is not ready, and `reason` says why. Use it on one event loop."""

    settings: Settings
    telemetry: Telemetry
    command: Sequence[str] = COMMAND
    launched: Sequence[Launched] = ()  # workers that have begun to start
    budget: Budget = field(init=False)
    workers: Workers = field(init=False)
    rates: Rates = field(init=False)
    keys: tuple[str, ...] = field(init=False)
    served: Ready | None = None
    reason: str = "The model is loading."
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False  # still answers, but wants no new clients
    sessions: int = 0
    strangers: int = 0  # sessions that have not authenticated yet
    load_attempted: asyncio.Event = field(default_factory=asyncio.Event)  # and it succeeded or failed
    _options: dict[PredictQuery, Options] = field(default_factory=dict)  # of the served model, as far as known
    _load_wanted: bool = False
    _loading: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        settings = self.settings
        self.budget = Budget(settings.max_pending_bytes)
        count = settings.workers or available_cpus()
        self.workers = Workers(count, settings.queue_size, settings.timeout_s, self.budget, self.command, self.launched)
        self.rates, self.keys = Rates(settings.rate_limit), settings.keys
        self.telemetry.watch(self.workers, self.budget)

    def load(self) -> "asyncio.Task[None]":
        """Load, verify and warm up the model in new workers, then serve it in place of the current one.

        If that fails, the current one stays; without one the service stays up, not ready, and says why. However often it
        is called during a load, it loads once more.
        """
        self._load_wanted = True
        if self._loading is None or self._loading.done():
            self._loading = asyncio.get_running_loop().create_task(self._load_while_wanted())
        return self._loading

    async def _load_while_wanted(self) -> None:
        while self._load_wanted:
            self._load_wanted = False
            await self._load()
            self.load_attempted.set()

    async def _load(self) -> None:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT_S):
                self.served = await self.workers.start(assembly_of(self.settings))
                self._options.clear()
        except MienError as error:
            self._refuse(str(error))
            return
        except TimeoutError:
            self._refuse(f"The model did not load within {_LOAD_TIMEOUT_S:g} s.")
            return
        except OSError as error:
            self._refuse(f"No worker can be started: {error}")
            return
        self.telemetry.served(self.served, time.perf_counter() - started)
        self.telemetry.ready.set(0 if self.draining else 1)
        model = self.served.model
        _logger.info("serving", extra={"model": model.name, "version": model.version, "detector": model.detector})

    def _refuse(self, reason: str) -> None:
        self.reason = reason
        self.telemetry.model_loads.labels("failed").inc()
        still = f"; still serving {self.served.model.version}" if self.served else ""
        _logger.error("the model cannot be served%s: %s", still, reason)

    def ready(self) -> Ready:
        """What is served. Raises NotReady when nothing is."""
        if self.served is None:
            raise NotReady(self.reason)
        return self.served

    def check_health(self) -> Ready:
        """As `ready`, but also raises NotReady while no worker is running, or while the service stops."""
        served = self.ready()
        if self.draining:
            raise NotReady("The service is stopping.")
        if self.workers.alive == 0:
            raise NotReady("No worker is running; new ones are being started.")
        return served

    def check_room(self, size: int) -> None:
        """Raise Overloaded if a request of `size` bytes would find the queue or the memory full."""
        self.workers.check_room()
        self.budget.check(size)

    def defaults(self) -> Options:
        """What a request gets unless it asks otherwise. Raises NotReady."""
        return _defaults(self.settings, self.ready().manifest)

    def options(self, query: PredictQuery) -> Options:
        """What a request gets that asks for `query`. Raises NotReady, UnusablePrior or UnknownAnswer."""
        options = self._options.get(query)
        if options is None:
            options = query.options(self.defaults())
            self.check(options)
            if len(self._options) >= _MAX_KNOWN_QUERIES:
                self._options.clear()
            self._options[query] = options
        return options

    def check(self, options: Options) -> None:
        """Raise UnknownAnswer or UnusablePrior if the model cannot give what `options` ask for, or NotReady."""
        choices = Choices.of(self.ready().manifest)
        answer = choices.answer(options.answer)
        choices.weighed(np.empty((0, len(EMOTIONS)), np.float32), answer, options.prior)

    def describe(self) -> str:
        """Which model and detector are served, or why none is, for the person who started the service."""
        if self.served is None:
            return f"NOT READY: {self.reason}"
        model = self.served.model
        return f"Model {model.name} {model.version}; face detector {model.detector}."

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
    def stranger(self) -> Iterator[bool]:
        """Count a session that has not authenticated yet while the block lasts; whether there was room for it."""
        room = self.strangers < _MAX_STRANGERS
        self.strangers += room
        try:
            yield room
        finally:
            self.strangers -= room

    async def predict(self, image: Image, options: Options, request_id: str) -> Done:
        """The answer to a request for one encoded image, in JSON. Raises as `analyze` does."""
        return await self._work(
            lambda waited_s: Job(image.data, options, image.base64, waited_s, request_id), *_place(image)
        )

    async def analyze(self, image: Image, options: Options) -> Analysis:
        """Analyze one encoded image on a worker. Raises ImageError, NotReady, Overloaded or TimedOut."""
        done = await self._work(lambda waited_s: Job(image.data, options, image.base64, waited_s), *_place(image))
        assert done.analysis is not None
        return done.analysis

    async def analyze_frame(self, take: Callable[[], bytes], options: Options) -> Analysis:
        """As `analyze`, of what `take` returns when a worker is free; video waits apart from requests, and in turn.

        The faces have their crops.
        """
        done = await self._work(lambda waited_s: Job(take(), options, waited_s=waited_s, crops=True), Lane.SESSIONS)
        assert done.analysis is not None
        return done.analysis

    async def annotate(self, image: Image, options: Options, kind: ImageKind, points: bool = False) -> Done:
        """The image at full size with its faces drawn on it, with `points` also their landmarks. Raises as `analyze` does."""
        return await self._work(
            lambda waited_s: Job(image.data, options, image.base64, waited_s, draw=kind, points=points), *_place(image)
        )

    async def _work(self, job: Callable[[float], Job], lane: Lane, cost: float = 1) -> Done:
        """Have the job done that `job` makes of the time it waited, and record it."""
        self.ready()
        submitted = time.perf_counter()
        done = await self.workers.run(lambda: job(time.perf_counter() - submitted), lane, cost)
        self.telemetry.observe(done)
        return done

    def stop(self) -> None:
        """Stop being ready and end video sessions; accepted requests still finish. Call it on the event loop."""
        self.draining = True
        self.stopping.set()
        self.telemetry.ready.set(0)

    async def close(self) -> None:
        """Stop, and end the workers, whatever they do."""
        self.stop()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self.workers.close()


def _place(image: Image) -> tuple[Lane, float]:
    """Where it waits, and its cost: the size of the file tells about how long it takes, before it is decoded."""
    cost = 1 + len(image.data) / _BYTES_PER_COST
    return (Lane.LARGE if cost >= _LARGE_COST else Lane.REQUESTS), cost


def assembly_of(settings: Settings) -> Assembly:
    """The analyzer that `settings` describe."""
    return Assembly(
        settings.model,
        settings.detector,
        settings.detector_files,
        ImageLimits(
            settings.max_image_pixels, settings.max_image_side_px, settings.detect_side_px, settings.image_kinds
        ),
        tuple(name.strip() for name in settings.providers.split(",")),
        settings.flip,
        settings.answer,
        prior_of(settings.prior) if settings.prior else None,
        settings.max_pending_bytes,
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
