"""Films of a moving square, and an analyzer whose detector finds it: small and quick, with the shipped model."""

import gc
import io
import json
import tarfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import boto3
import cv2
import httpx
import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from services.batch.engine import ray_running
from services.batch.job import Job
from services.batch.plan import extend_plan, shards
from services.batch.scoring import Scorer
from services.batch.sources import list_sources
from services.batch.storage import Output
from shared.analyzer import Analyzer
from shared.boxes import Box
from shared.manifest import load_manifest
from shared.pictures import BgrImage, ImageLimits
from shared.pipeline.classify import open_classifier
from shared.pipeline.detect import Detection
from tests.conftest import SHIPPED_MODEL

BRIGHT = 128
WITH = ("--detector", "haar", "--model", str(SHIPPED_MODEL), "--detect-side-px", "160")
Picture = npt.NDArray[np.uint8]


class SquareDetector:
    """Finds the bright part of a picture, as sure as it is bright."""

    name = "haar"

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        rows, columns = np.nonzero(image.max(axis=2) > BRIGHT)
        if len(rows) == 0:
            return []
        box = Box(columns.min(), rows.min(), float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1)
        return [Detection(box, float(image.max()) / 255)]


def square(x: int = 20, y: int = 10, size: tuple[int, int] = (96, 64), side: int = 30, level: int = 250) -> Picture:
    """A dark picture of (height, width) with a bright square at x, y."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    picture[y : y + side, x : x + side] = level
    return picture


def write_photo(path: Path, picture: Picture | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), square() if picture is None else picture)
    return path


def write_film(
    path: Path, times: Sequence[float], pictures: Callable[[int], Picture] = lambda number: square(20 + number % 20),
    rotation: int | None = None,
) -> Path:  # fmt: skip
    """A film whose frames are shown at `times` in seconds; `rotation` is the metadata that phones write."""
    width, height = pictures(0).shape[1::-1]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number, time_s in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pictures(number)), format="bgr24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    """A tar file of `files`."""
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Every row of the table in `folder`, by source, member, frame and face."""
    if not any((folder / "faces").glob("*.parquet")):
        return []
    rows = ds.dataset(str(folder / "faces"), format="parquet").to_table().to_pylist()
    return sorted(rows, key=lambda row: (row["source"], row["member"] or "", row["frame"] or 0, row["face"] or 0))


@dataclass(frozen=True)
class Bench:
    """Scores without Ray, shard after shard, in this process."""

    analyzer: Analyzer

    def score(self, source: Path, out: Path, **job: Any) -> list[dict[str, Any]]:
        output = Output.at(str(out))
        extend_plan(output, list_sources([str(source)]))
        scorer = Scorer(Job(**job), output, self.analyzer)
        for shard in shards(output):
            scorer.score(shard)
        return rows_of(out)


@pytest.fixture(scope="session")
def bench() -> Bench:
    manifest = load_manifest(SHIPPED_MODEL)
    classifier = open_classifier(SHIPPED_MODEL, manifest, threads=1)
    return Bench(Analyzer(manifest, classifier, SquareDetector(), ImageLimits()))  # type: ignore[arg-type] # a fake


_MAY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@pytest.fixture(scope="package")
def store() -> Iterator[s3fs.S3FileSystem]:
    """An S3 server on this machine that checks signatures; the environment names it and holds its one user's key."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as environment:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            environment.setenv(f"AWS_{name}", "anybody")
        for name, value in {"ENDPOINT_URL": url, "DEFAULT_REGION": "us-east-1", "MAX_ATTEMPTS": "1"}.items():
            environment.setenv(f"AWS_{name}", value)
        httpx.post(f"{url}/moto-api/reset-auth", content="3").raise_for_status()  # requests that anybody may make
        iam = boto3.client("iam")
        iam.create_user(UserName="archivist")
        iam.put_user_policy(UserName="archivist", PolicyName="all", PolicyDocument=json.dumps(_MAY_ALL))
        key = iam.create_access_key(UserName="archivist")["AccessKey"]
        environment.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        environment.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        yield s3fs.S3FileSystem()
    server.stop()


@pytest.fixture(scope="package")
def ray(store: s3fs.S3FileSystem) -> Iterator[None]:
    """One Ray for all tests, whose workers know the store: its start is most of their time."""
    with ray_running(None, 2):
        yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray does not wait for the processes that it ends
        gc.collect()
