"""ONNX Runtime sessions, opened the same way for every network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import onnxruntime

from shared.errors import ModelError

PROVIDERS: Final = {
    "CPU": "CPUExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "TensorRT": "TensorrtExecutionProvider",
    "OpenVINO": "OpenVINOExecutionProvider",
    "CoreML": "CoreMLExecutionProvider",
    "DirectML": "DmlExecutionProvider",
}
_ERRORS_ONLY: Final = 3


class Session(Protocol):
    """The part of onnxruntime.InferenceSession that is used. One session serves all threads."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> Sequence[Any]: ...


def open_session(
    model: Path | bytes, threads: int, providers: Sequence[str] = ("CPU",)
) -> onnxruntime.InferenceSession:
    """A session of an ONNX file, or of its bytes.

    `threads`: for one call. `providers`: names in PROVIDERS, the preferred one first; one that is unavailable is an
    error, never silently replaced. Raises ModelError.
    """
    wanted = _provider_names(providers)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Pictures differ in size, and ONNX Runtime would keep a plan of its memory for each size that it has seen.
    options.enable_mem_pattern = False
    # Nor does it keep the memory of the largest one for itself: that takes up to 2 % more time, and a tenth less memory.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(model, options, providers=wanted)
    except Exception as error:  # ONNX Runtime has no common error class
        name = model if isinstance(model, Path) else "the model"
        raise ModelError(f"ONNX Runtime cannot load {name}: {error}") from error
    # ONNX Runtime drops a provider that fails to start (no driver, say) with only a line in its log.
    dropped = [name for name in wanted if name not in session.get_providers()]
    if dropped:
        raise ModelError(f"The execution provider {dropped[0]} is installed but does not start on this machine.")
    return session


def _provider_names(providers: Sequence[str]) -> list[str]:
    """ONNX Runtime's names of `providers`. Raises ModelError for one that is unknown or not installed."""
    known = {name.lower(): full for name, full in PROVIDERS.items()}
    there = onnxruntime.get_available_providers()
    names = []
    for provider in providers:
        full = known.get(provider.lower())
        if full is None:
            raise ModelError(f"'{provider}' is not an execution provider. Choose from {', '.join(PROVIDERS)}.")
        if full not in there:
            installed = ", ".join(name for name, full in PROVIDERS.items() if full in there)
            raise ModelError(
                f"The execution provider {provider} is not part of the installed ONNX Runtime, which has {installed}. "
                "Install the ONNX Runtime that has it (onnxruntime-gpu, onnxruntime-openvino), or leave it out."
            )
        names.append(full)
    return names
