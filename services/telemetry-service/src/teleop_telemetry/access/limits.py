"""How many may try codes, in one process."""

import math
import time

from teleop_runtime.access.rates import Buckets, Rate, counted_as
from teleop_schema.errors import TooManyAttempts


class Attempts:
    """So many attempts of each address in a minute: nobody keeps others out with theirs."""

    def __init__(self, who: str, most: int) -> None:
        """
        who  can try it, for the error: "robots can try to join"
        """
        self._who = who
        self._most = most
        self._buckets = Buckets(Rate(per_s=most / 60, burst=most))

    def count(self, address: str) -> None:
        """Count one; raises TooManyAttempts if there were too many, with the seconds to wait."""
        wait_s = self._buckets.take(counted_as(address), time.monotonic())
        if wait_s > 0:
            raise TooManyAttempts(
                f"at most {self._most} {self._who} per minute from one address",
                limit=self._most,
                hint="wait as long as Retry-After says",
                retry_after_s=math.ceil(wait_s),
            )
