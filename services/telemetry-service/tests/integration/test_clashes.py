"""Two computers that record as one robot: nothing is refused, and people are told by name."""

from uuid import uuid4

import pytest
from teleop_runtime.metrics import REGISTRY
from teleop_runtime.postgres.erasing import Erasing
from teleop_telemetry.erasing.share import SessionEraser
from teleop_telemetry.tables import clashes
from teleop_testing.datasets.erased import ask_session
from teleop_testing.waiting import until

ADD = """
WITH known AS (INSERT INTO robot (robot_id, robot_type) VALUES ($1, 'x') ON CONFLICT DO NOTHING)
INSERT INTO teleop_session (stream_id, robot_id, robot_type, start_time, last_frame_time, last_commit_at, fps,
                            state_names, action_names, host, delivery, status)
VALUES ($2, $1, 'x', now() - $3 * interval '1 s', now() - $4 * interval '1 s', now() - $5 * interval '1 s',
        60, '{}', '{}', '{"hostname": "bench"}', 'acknowledged', $6)
RETURNING id
"""


def clashing_now() -> float | None:
    """What is measured of it."""
    return REGISTRY.get_sample_value("telemetry_robots_clashing")


@pytest.fixture
def add(database):
    """Adds a session: when it began, when its last frame was taken, and when that was committed, s ago."""

    async def add_one(
        began: float, taken: float, committed: float = 1, *, robot_id="robot_A", status="recording"
    ) -> int:
        about = (robot_id, uuid4(), began, taken, committed, status)
        number: int = await database.value(ADD, *about)
        return number

    return add_one


async def test_two_computers_of_one_name_are_told(http, pool, add, database, capsys):
    """In the log once, in the list of robots for a week, and in the metrics as long as it lasts."""
    first, second = await add(600, 1), await add(60, 1)
    await add(60, 1, robot_id="robot_B")
    for _ in range(3):
        await clashes.look_for_clashes(pool)
    assert capsys.readouterr().out.count("two computers record as one robot") == 1
    assert clashing_now() == 1
    a, b = (await http.get("/robots")).json()
    assert (a["clashing_sessions"], b["clashing_sessions"]) == ([first, second], [])
    assert (a["clashed_at"] is not None, b["clashed_at"]) == (True, None)
    await database.connection.execute("UPDATE teleop_session SET status = 'complete' WHERE id = $1", first)
    await clashes.look_for_clashes(pool)
    assert clashing_now() == 0
    assert (await http.get("/robots")).json()[0]["clashing_sessions"] == [first, second]
    await database.connection.execute("UPDATE robot SET clashed_at = now() - interval '8 days'")
    assert (await http.get("/robots")).json()[0]["clashing_sessions"] == []


async def test_one_computer_is_not_two(pool, add):
    """What it sends late was taken before; a recording that was killed may overlap with the next by little;
    one that has ended, or is silent, is not recorded now."""
    await add(30, 1)
    await add(9000, 8000)
    await add(600, 25)
    await add(600, 1, 60)
    await add(600, 1, status="complete")
    await clashes.look_for_clashes(pool)
    assert clashing_now() == 0


async def test_an_erased_session_is_not_named_any_more(http, pool, add, database):
    """Neither is the clash: the other session alone is none."""
    session, _ = await add(600, 1), await add(60, 1)
    await clashes.look_for_clashes(pool)
    erasure = await ask_session(database, session)
    done = "UPDATE erasure_share SET done_at = now() WHERE erasure_id = $1 AND service <> 'telemetry-service'"
    await database.connection.execute(done, erasure)

    erasing = Erasing(pool, "telemetry-service", SessionEraser(pool, None).erase)

    async def is_forgotten() -> bool:
        # The service may be at it, too.
        await erasing.once()
        return (await http.get("/robots")).json()[0]["clashing_sessions"] == []

    await until(is_forgotten)
