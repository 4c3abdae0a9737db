"""Tells the person who records that data is only on this PC for now, why, and when that is over. Pure."""

from pathlib import Path

from teleop_schema.words import counted

# A reconnection, or a server that is restarted, takes less; and a person reads it well within a minute.
TELL_AFTER_S = 20.0
# What is waiting grows meanwhile.
REPEAT_S = 600.0


class Waiting:
    """One kind of data of a session, frames or video segments, on its way to the server."""

    def __init__(self, noun: str, where: Path) -> None:
        """
        noun   what is counted, in the singular
        where  folder in which it waits
        """
        self._noun = noun
        self._where = where
        self._done = -1
        self._since_s = 0.0
        self._tell_at_s = 0.0
        self._told = False

    def look(self, now_s: float, *, done: int, waiting: int, trouble: str | None) -> str | None:
        """A line for people if there is something new to tell.

        now_s    by a clock that is not set
        done     how many the server has
        waiting  how many are only here
        trouble  why nothing is sent; None: no reason is known
        """
        moves = waiting == 0 or done > self._done
        self._done = done
        if moves:
            was_told, self._told = self._told, False
            self._since_s, self._tell_at_s = now_s, now_s + TELL_AFTER_S
            return self._over(waiting) if was_told else None
        if trouble is None or now_s < self._tell_at_s:
            return None
        self._tell_at_s, self._told = now_s + REPEAT_S, True
        return (
            f"nothing has reached the server for {_duration(now_s - self._since_s)}: {trouble}; only on this "
            f"PC so far: {counted(waiting, self._noun)}, in {self._where}; they are sent once the server "
            "takes them, and the recording goes on"
        )

    def _over(self, waiting: int) -> str:
        left = f"still to be sent: {counted(waiting, self._noun)}" if waiting else "nothing is left to send"
        return f"the server takes {self._noun}s again; {left}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
