"""Which devices train, by Keras's own distribution API."""

import keras

from services.trainer.errors import ConfigError


def use_devices(wanted: str, batch_size: int) -> None:
    """Spread every batch over `wanted`: "2" or "gpu:2" is two GPUs. A single GPU is used without asking.

    Raises ConfigError when there are fewer, when this backend cannot spread a batch, or when the batch does not divide
    into equal parts.
    """
    kind, _, count = wanted.rpartition(":")
    kind = kind or "gpu"
    if not count.isdigit() or int(count) < 1 or kind not in ("gpu", "cpu", "tpu"):
        raise ConfigError(f"--devices {wanted}: give a number of GPUs, or gpu:N, cpu:N, tpu:N.")
    backend, number = keras.backend.backend(), int(count)
    there = devices_of_kind(kind)
    if len(there) < number:
        seen = ", ".join(there) or "none"
        raise ConfigError(f"--devices {wanted}: {number} asked for, the {backend} backend sees {seen}.")
    if number == 1:
        return
    if backend != "jax":
        raise ConfigError(
            f"--devices {wanted}: Keras spreads a batch over devices only on JAX; set KERAS_BACKEND=jax "
            f"(it is {backend}, which uses one device)."
        )
    if batch_size % number:
        raise ConfigError(f"--devices {wanted}: batch_size {batch_size} does not divide into {number} equal parts.")
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=there[:number]))


def devices_of_kind(kind: str) -> list[str]:
    """The devices that the backend sees."""
    if keras.backend.backend() == "torch":  # Keras's distribution API does not know it yet
        import torch

        gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        return {"gpu": gpus, "cpu": ["cpu:0"]}.get(kind, [])
    try:
        return list(keras.distribution.list_devices(kind))
    except RuntimeError:  # JAX raises when there are none
        return []
