"""Starting Keras: its backend takes seconds, and says things that would bury ours."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def load_backend() -> None:
    """Import Keras and wake its backend, without the backend's start-up lines. What fails is told as usual."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # notes and warnings, from here on
    if not Path("/dev/nvidiactl").exists():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # or looking for a GPU is an error that is told
    with _native_lines_dropped():
        import keras

        keras.ops.zeros(1)  # devices are looked for at the first operation


@contextmanager
def _native_lines_dropped() -> Iterator[None]:
    """Drop what C++ writes to the standard error; it is given back when the block fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
