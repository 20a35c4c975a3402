"""The bar: how much of the job is done, how fast, and how long it will still take."""

import shutil
import sys
from collections.abc import Sequence
from typing import Never, Self

from tqdm import tqdm

from services.batch.plan import Shard


class Bar:
    """Follows shards by their bytes, where the listing gave them, and pictures by their number."""

    def __init__(self, shards: Sequence[Shard], done: set[str]) -> None:
        known = all(shard.bytes for shard in shards)
        self._weights = {shard.id: shard.bytes if known else shard.sources for shard in shards}
        self._total = sum(self._weights.values()) or 1
        self._before = sum(self._weights[name] for name in done if name in self._weights) / self._total
        self._shares = dict.fromkeys(done, 1.0)
        self._pictures: dict[str, int] = {}
        columns, lines = shutil.get_terminal_size()  # tqdm's own shows nothing where the terminal does not say
        self._bar: tqdm[Never] = tqdm(
            total=1.0, initial=self._before, smoothing=0, file=sys.stderr, disable=None,
            ncols=columns, nrows=lines,
            bar_format="{percentage:3.0f}% |{bar}| {desc}{elapsed} gone",
        )  # fmt: skip
        self._idle_s = 0.0  # until the first worker had started, which says nothing of how fast they are

    def __enter__(self) -> Self:
        return self

    def update(self, told: dict[str, tuple[float, int]]) -> None:
        """Take what workers said: by shard, the share that is done and the pictures so far."""
        for shard, (share, pictures) in told.items():
            self._shares[shard], self._pictures[shard] = share, pictures
        if self._bar.disable:
            return
        done = sum(self._weights[name] * share for name, share in self._shares.items() if name in self._weights)
        elapsed_s, total = self._bar.format_dict["elapsed"], sum(self._pictures.values())
        if self._pictures:
            working_s, share = max(elapsed_s - self._idle_s, 0.1), done / self._total
            gained = share - self._before
            left = tqdm.format_interval((1 - share) * working_s / gained) if gained > 0.01 else "?"
            said = f"{total:,} pictures, {total / working_s:.0f}/s, {left} left, "
        else:
            self._idle_s, said = elapsed_s, "workers start, "
        self._bar.set_description_str(said, refresh=False)
        self._bar.n = done / self._total
        self._bar.refresh()

    def __exit__(self, *_: object) -> None:
        self._bar.close()
