"""How long a client waits before it tries again."""

from teleop_client import persevering
from teleop_client.backend_http import Interrupted
from teleop_client.backoff import backoff_s


def test_backoff_grows_and_stays_bounded():
    """The pauses double from 0.2 s, end at the given longest, and no two robots take the same."""
    assert [backoff_s(failures, 30.0, 1.0) for failures in range(5)] == [0.2, 0.4, 0.8, 1.6, 3.2]
    assert backoff_s(10**6, 30.0, 1.0) == 30.0
    assert backoff_s(10**6, 30.0, 0.0) == 15.0


async def test_nobody_asks_sooner_than_the_backend_says(monkeypatch):
    """Its word counts where it is longer than the pause that would come anyway."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(persevering.asyncio, "sleep", sleep)
    answers = [Interrupted("rate_limited", retry_after_s=7.0), Interrupted("cut"), "done"]

    async def attempt():
        answer = answers.pop(0)
        if isinstance(answer, Interrupted):
            raise answer
        return answer

    assert await persevering.persevere(attempt, jitter=lambda: 1.0) == "done"
    assert slept == [7.0, 0.8]
