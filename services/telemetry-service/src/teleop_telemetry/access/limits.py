"""How many may try codes, in one process."""

import time

from teleop_schema.errors import TooManyAttempts


class Attempts:
    """Counts attempts by the minute."""

    def __init__(self, who: str) -> None:
        """
        who  can try it, for the error: "robots can try to join"
        """
        self._who = who
        self._minute = 0
        self._count = 0

    def count(self, most: int) -> None:
        """Count one; raises TooManyAttempts beyond `most` in a minute."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        if self._count > most:
            raise TooManyAttempts(
                f"at most {most} {self._who} per minute", limit=most, hint="try again in a minute"
            )
