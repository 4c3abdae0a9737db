"""How many may try codes, in one process."""

import time

from teleop_schema.errors import TooManyAttempts

# Addresses remembered in a minute: whoever has millions of them fills no memory, and shares one count.
MAX_APART = 10_000


class Attempts:
    """Counts attempts by the minute."""

    def __init__(self, who: str) -> None:
        """
        who  can try it, for the error: "robots can try to join"
        """
        self._who = who
        self._minute = 0
        self._counts: dict[str, int] = {}

    def count(self, most: int, by: str = "") -> None:
        """Count one; raises TooManyAttempts beyond `most` in a minute.

        by  whose attempts are counted apart, by address; beyond MAX_APART, new ones are counted together
        """
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        by = by if by in self._counts or len(self._counts) < MAX_APART else ""
        self._counts[by] = self._counts.get(by, 0) + 1
        if self._counts[by] > most:
            raise TooManyAttempts(
                f"at most {most} {self._who} per minute", limit=most, hint="try again in a minute"
            )
