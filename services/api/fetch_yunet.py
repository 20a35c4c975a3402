"""`python -m services.api.fetch_yunet`: fetch YuNet, for MIEN_DETECTOR=yunet, where the network allows it."""

import hashlib
import http.client
import sys
import time
import urllib.parse
import urllib.request
from typing import Final

from services.api.settings import Settings
from shared.atomic import atomic_file

SHA256: Final = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
# YuNet is MIT-licensed. The first is its authors' current home for it, the second the former one.
SOURCES: Final = (
    "https://huggingface.co/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2023mar.onnx",
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
)
TIMEOUT_S: Final = 10.0  # for all sources together
_MAX_BYTES: Final = 5_000_000


def fetch(sources: tuple[str, ...] = SOURCES, timeout_s: float = TIMEOUT_S) -> bytes:
    """YuNet's model file from the first source that has it in time. Raises OSError with each source's reason."""
    deadline, reasons = time.monotonic() + timeout_s, []
    for source in sources:
        left_s = max(0.1, deadline - time.monotonic())
        try:
            with urllib.request.urlopen(source, timeout=left_s) as response:  # noqa: S310 # the sources are ours
                data = bytes(response.read(_MAX_BYTES))
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{urllib.parse.urlsplit(source).hostname}: {error}")
            continue
        if hashlib.sha256(data).hexdigest() == SHA256:
            return data
        reasons.append(f"{urllib.parse.urlsplit(source).hostname}: a different file")
    raise OSError("; ".join(reasons))


def main(sources: tuple[str, ...] = SOURCES) -> int:
    """Fetch unless it is installed; 1, with the reason and the remedy, when it is unavailable."""
    path = Settings().yunet_model
    if path.is_file():
        print(f"YuNet is at {path}.")
        return 0
    try:
        data = fetch(sources)
    except OSError as error:
        print(
            f"YuNet could not be fetched ({error}). The service does not need it. "
            f"To add it later, run `make yunet` where the network allows it, or save {SOURCES[0]} as {path}."
        )
        return 1
    with atomic_file(path) as beside:
        beside.write_bytes(data)
    print(f"YuNet was fetched to {path}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
