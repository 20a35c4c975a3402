"""How often a key or an address may send requests, if the operator has set a limit."""

import hashlib
import ipaddress
import math
import time
from typing import Final

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from services.api.faults import RateLimited

_IPV6_NETWORK_BITS: Final = 64  # one household or machine has that many addresses


class Rates:
    """Counts requests by sender, and refuses those beyond `limit`, as in 100/minute; '' means no limit."""

    def __init__(self, limit: str) -> None:
        self._limit = parse(limit) if limit else None
        self._limiter = FixedWindowRateLimiter(MemoryStorage()) if limit else None

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self._limit is not None

    def count(self, key: str, address: str) -> None:
        """Count a request with this key, or without one from this address. Raises RateLimited beyond the limit."""
        if self._limit is None or self._limiter is None:
            return
        # Keys are kept as hashes, so that they cannot be found in a memory dump.
        who = "key:" + hashlib.sha256(key.encode()).hexdigest() if key else "address:" + _network(address)
        if not self._limiter.hit(self._limit, who):
            reset = self._limiter.get_window_stats(self._limit, who).reset_time
            wait_s = max(1, math.ceil(reset - time.time()))
            raise RateLimited(f"More than {self._limit}, the limit. Try again in {wait_s} s.", wait_s)


def _network(address: str) -> str:
    """The address, or for IPv6 its network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, _IPV6_NETWORK_BITS), strict=False))
