"""Shards through Ray Data: on this machine's cores, or on those of a cluster."""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from services.batch.errors import BatchError, ClusterError, OutputError
from services.batch.job import Job, open_reader, stamp
from services.batch.plan import Shard, finished
from services.batch.scoring import Scorer
from services.batch.storage import Output
from shared.errors import MienError, ModelError

# In one pass; the next begins with the workers that there are then.
_SHARDS_A_CORE: Final = 1000
_SHARDS_A_PASS: Final = 50_000  # each costs the driver a block of Ray Data
_JOIN_S: Final = 60.0  # for the first worker node of a new cluster to join
_BARREN_PASSES: Final = 3  # passes in a row without a finished shard, after which the cluster is at fault
_STORE_BYTES: Final = 100 * 2**20  # of Ray's object store on this machine: only the names of shards travel
_REACH_S: Final = 5.0
_STARTS: Final = 3  # Ray gives itself 30 s for each
_REPORT_S: Final = 0.5
_IN_FLIGHT: Final = 4  # shards given to a worker at once, so that it does not wait for its next one

Watch: TypeAlias = Callable[[dict[str, tuple[float, int]]], None]  # by shard: share done, pictures so far


@contextmanager
def ray_running(address: str | None, cpus: int | None) -> Iterator[Callable[[], int]]:
    """Ray for as long as the block lasts; gives what tells how many cores there are now. Raises ClusterError.

    Without `address` a Ray of our own is started on this machine, with `cpus` cores; nothing leaves the machine.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what concerns the user is told by us
    if address:
        _use_token()
        if address != "auto":
            _check_reachable(address)
    import ray  # takes a second, and needs the variables above

    mine = not ray.is_initialized()
    if mine:
        _start(address, cpus)

    def cores() -> int:
        there = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call] # Ray annotates in part
        return min(there, cpus) if cpus else there

    try:
        until = time.monotonic() + _JOIN_S
        while cores() < 1:
            if time.monotonic() > until:
                raise ClusterError(f"The Ray cluster at {address} has no cores. Add a node with `ray start --address`.")
            time.sleep(_REPORT_S)
        yield cores
    finally:
        if mine:
            ray.shutdown()


def _start(address: str | None, cpus: int | None) -> None:
    """Connect to `address`, or start a Ray of our own, which a busy machine may not do at the first attempt."""
    import ray

    own: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    for attempt in range(_STARTS):
        try:
            with _stderr_closed():
                ray.init(
                    address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **({} if address else own)
                )
            return
        except Exception as error:  # of many kinds: no such cluster, another version of Ray or Python, no free memory
            ray.shutdown()
            if not address and "timed out" in str(error) and attempt < _STARTS - 1:
                continue
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            fix = (
                "Does it run, and with this token (RAY_AUTH_TOKEN_PATH)?" if address else "See Ray's logs in /tmp/ray."
            )
            raise ClusterError(f"Ray cannot be used{f' at {address}' if address else ''}: {said} {fix}") from error


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Ray's C++ part writes there as it starts, whatever level is set."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _use_token() -> None:
    """Show Ray's token to the cluster where this machine has one; Ray itself asks for it only at `ray start`."""
    kept = (Path.home() / ".ray/auth_token").is_file()
    if kept or "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _check_reachable(address: str) -> None:
    """Ask the port, as Ray itself waits for minutes. Raises ClusterError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"--address is HOST:PORT, as in 10.0.0.1:6379, or auto; not {address}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise ClusterError(
            f"No Ray cluster answers at {address} ({error.strerror or error}). Start one with `ray start --head --port={port}`."
        ) from error


@dataclass(frozen=True, slots=True)
class Engine:
    """Scores shards on as many workers as `cores` says, each with an analyzer of its own."""

    job: Job
    output: Output
    by: dict[str, str]  # model and detector, with their versions
    cores: Callable[[], int]

    def score(self, shards: Sequence[Shard], watch: Watch) -> None:
        """Score every one of `shards`; `watch` is told every half second how far each is.

        A worker that is lost with its node costs its shards of that moment, which Ray gives to the next free core; what
        Ray loses altogether is scored in another pass. Raises OutputError when the output cannot be written, ModelError
        when a machine has another model, ClusterError when shards remain that no worker finishes.
        """
        import ray

        progress = ray.remote(num_cpus=0)(_Progress).remote()
        left, barren = list(shards), 0
        faults: list[str] = []
        with _watching(progress, watch):
            while left and barren < _BARREN_PASSES:
                cores = max(1, self.cores())
                tried = left[: min(_SHARDS_A_CORE * cores, _SHARDS_A_PASS)]
                scored = self._pass(tried, cores, progress, faults) | finished(self.output)
                before, left = len(left), [shard for shard in left if shard.id not in scored]
                barren = barren + 1 if len(left) == before else 0
        if left:
            why = faults[-1] if faults else "its workers end, see Ray's logs"
            raise ClusterError(f"{len(left)} shards cannot be finished: {why}. What was written stays.")

    def _pass(self, shards: Sequence[Shard], cores: int, progress: Any, faults: list[str]) -> set[str]:
        """The ids of the shards that were scored."""
        import ray
        from ray.data import ActorPoolStrategy, DataContext
        from ray.exceptions import RayError

        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # what Ray gives up is missing from what is finished
        logging.getLogger("ray.data").setLevel(logging.CRITICAL + 1)
        items = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
        dataset = items.map(
            _Worker,  # type: ignore[arg-type] # Ray takes classes too
            fn_constructor_args=(self.job, self.output, self.by, progress),
            compute=ActorPoolStrategy(size=min(cores, len(shards)), max_tasks_in_flight_per_actor=_IN_FLIGHT),
            num_cpus=1,
        )
        scored = set()
        try:
            for row in dataset.iter_rows():
                if row["ends"]:
                    raise (ModelError if row["ends"] == "model" else OutputError)(row["fault"])
                if row["fault"]:
                    faults.append(row["fault"])
                else:
                    scored.add(row["id"])
        except RayError as error:  # every worker was lost, or the node that held results: what is finished counts
            faults.append(str(error).strip().partition("\n")[0])
        return scored


class _Worker:
    """One core's worker, with its analyzer. Faults travel as rows, and say what they end: the job, or nothing."""

    def __init__(self, job: Job, output: Output, by: dict[str, str], progress: Any) -> None:
        import cv2
        import pyarrow as pa

        cv2.setNumThreads(1)  # Ray gives each worker a core
        pa.set_cpu_count(1)
        self._progress, self._fault, self._told_s = progress, "", 0.0
        try:
            analyzer = open_reader(job)
            if (mine := stamp(job, analyzer)) != by:
                raise ModelError(f"this machine has {mine} and the one that asks {by}; install the same on all.")
            self._scorer = Scorer(job, output, analyzer)
        except MienError as error:
            self._fault = f"On {socket.gethostname()}: {error}"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        shard = row["shard"]
        if self._fault:
            return {"id": shard.id, "fault": self._fault, "ends": "model"}
        try:
            self._scorer.score(shard, lambda share, pictures: self._tell(shard.id, share, pictures))
        except BatchError as error:
            return {"id": shard.id, "fault": str(error), "ends": "output"}
        except Exception as error:  # a fault of ours must not keep the other shards from being scored
            return {"id": shard.id, "fault": f"{shard.id}: {error!r}", "ends": ""}
        return {"id": shard.id, "fault": "", "ends": ""}

    def _tell(self, shard: str, share: float, pictures: int) -> None:
        if share >= 1 or time.monotonic() - self._told_s > _REPORT_S:
            self._told_s = time.monotonic()
            self._progress.tell.remote(shard, share, pictures)


@dataclass(slots=True)
class _Progress:
    """Where workers say how far they are."""

    told: dict[str, tuple[float, int]] = field(default_factory=dict)

    def tell(self, shard: str, share: float, pictures: int) -> None:
        self.told[shard] = (share, pictures)

    def take(self) -> dict[str, tuple[float, int]]:
        told, self.told = self.told, {}
        return told


@contextmanager
def _watching(progress: Any, watch: Watch) -> Iterator[None]:
    import ray
    from ray.exceptions import RayError

    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(_REPORT_S):
            try:
                watch(ray.get(progress.take.remote(), timeout=_REACH_S))
            except RayError:
                continue  # only the bar stands still

    thread = threading.Thread(target=follow, name="mien-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with suppress(RayError):
            watch(ray.get(progress.take.remote(), timeout=_REACH_S))
