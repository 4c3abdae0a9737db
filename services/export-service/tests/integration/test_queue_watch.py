"""What /metrics tells of exports, whichever process works on them."""

from teleop_export import metrics
from teleop_export.tables.database import open_pool
from teleop_export.work import queue_watch

INSERT = """
INSERT INTO export (fingerprint, request, work_order, report, status, attempts_left, problem, created_at,
                    finished_at)
VALUES ($1, '{}', '{}', '{}', $2, 1, $3, now() - interval '90 s', now() - $4 * interval '1 min')
"""


async def test_the_queue_is_told(database, database_url):
    """Gauges count what waits and runs, and what failed within the hour."""
    for number, row in enumerate(
        [
            ("queued", None, 0),
            ("queued", None, 0),
            ("running", None, 0),
            ("failed", "{}", 5),
            ("failed", "{}", 90),
        ]
    ):
        await database.connection.execute(INSERT, str(number), *row)
    async with open_pool(database_url) as pool:
        await queue_watch.look(pool)
    assert metrics.EXPORTS_WAITING._value.get() == 2
    assert metrics.EXPORTS_RUNNING._value.get() == 1
    assert metrics.EXPORTS_FAILED._value.get() == 1
    assert 90 <= metrics.OLDEST_WAITING._value.get() < 900
    assert metrics.PUSHES_FAILED._value.get() == 0
