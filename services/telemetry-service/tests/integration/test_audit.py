"""The counting of ended sessions, which finds what is neither stored nor named."""

from teleop_telemetry import metrics
from teleop_telemetry.audit import Audit
from teleop_testing.robots.robot import TestRobot, batch
from teleop_testing.waiting import until


async def test_frames_that_are_not_accounted_for_are_told(recorded, pool, database):
    """Counting an ended session tells what is neither stored nor named; a sound one tells nothing."""
    before = metrics.FRAMES_UNACCOUNTED._value.get()
    audit = Audit(pool)
    for session in recorded:
        await audit.audit(session)
    assert metrics.FRAMES_UNACCOUNTED._value.get() == before
    await database.connection.execute("DELETE FROM teleop_frame WHERE frame_index BETWEEN 30 AND 32")
    await audit.audit(recorded[1])
    assert metrics.FRAMES_UNACCOUNTED._value.get() == before + 3


async def test_each_session_that_a_robot_ends_is_audited(service, database):
    """Nobody has to ask for it."""
    before = metrics.SESSIONS_AUDITED._value.get()
    async with TestRobot.connected(service, "robot_A") as robot:
        await robot.send(batch(0, 50))
        await robot.finish(50)
    await until(lambda: metrics.SESSIONS_AUDITED._value.get() > before)
