"""Which devices train, by Keras's own distribution API."""

import keras

from services.trainer.errors import ConfigError


def use_devices(wanted: str) -> None:
    """Train on `wanted`: "2" or "gpu:2" is two GPUs, each with a part of every batch; "cpu:1" is the CPU.

    Raises ConfigError when there are fewer, or when this backend cannot spread a batch.
    """
    kind, _, count = wanted.rpartition(":")
    kind = kind or "gpu"
    if not count.isdigit() or int(count) < 1 or kind not in ("gpu", "cpu", "tpu"):
        raise ConfigError(f"--devices {wanted}: write a number of GPUs, or gpu:N, cpu:N, tpu:N.")
    backend, number = keras.backend.backend(), int(count)
    there = _devices(kind)
    if len(there) < number:
        seen = ", ".join(there) or "none"
        raise ConfigError(f"--devices {wanted}: {number} asked for, the {backend} backend sees {seen}.")
    if number > 1 and backend != "jax":
        raise ConfigError(
            f"--devices {wanted}: Keras spreads a batch over devices on JAX; set KERAS_BACKEND=jax "
            f"(it is {backend}, which trains on one)."
        )
    if number > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=there[:number]))


def _devices(kind: str) -> list[str]:
    if keras.backend.backend() == "torch":  # which Keras's distribution API does not know yet
        import torch

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())] if kind == "gpu" else ["cpu:0"]
    return list(keras.distribution.list_devices(kind))
