"""The one place that writes `webhook` and `webhook_delivery`; triggers add deliveries."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from teleop_export.errors import TooManyWebhooks, WebhookNotFound
from teleop_export.tables.database import Connection, PsycopgPool, connect
from teleop_export.webhooks.rules import make_secret, retry_after_s
from teleop_export.webhooks.views import (
    MAX_KEPT,
    Deliveries,
    DeliveryFilter,
    DeliveryView,
    NewWebhook,
    WebhookRequest,
    WebhookView,
)

# Each has a lane of its own, so that one that does not answer keeps no other waiting.
MAX_WEBHOOKS = 20
# Of one receiver; more than any that lives leaves waiting.
MAX_WAITING = 10_000

SELECT = """
SELECT id, url, events, created_at, created_by, failing_since, last_error, disabled_at,
       (SELECT count(*) FROM webhook_delivery d WHERE d.webhook_id = w.id AND d.status = 'waiting') AS waiting
  FROM webhook w
"""
LIST = f"{SELECT} ORDER BY id"
GET = f"{SELECT} WHERE id = %s"
# The number of rows is looked at under a lock: each has a lane.
LOCK = "LOCK TABLE webhook IN SHARE ROW EXCLUSIVE MODE"
ADD = """
INSERT INTO webhook (url, events, secret, created_by)
SELECT %s, %s, %s, %s WHERE (SELECT count(*) FROM webhook) < %s RETURNING id
"""
REMOVE = "DELETE FROM webhook WHERE id = %s"

TEST = """
WITH enabled AS (UPDATE webhook SET disabled_at = NULL WHERE id = %(id)s RETURNING id)
INSERT INTO webhook_delivery (webhook_id, event, payload)
SELECT id, 'test', jsonb_build_object('type', 'test', 'timestamp', to_char(
           clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'data', '{}'::jsonb)
  FROM enabled
RETURNING id, event, status, attempts, created_at, next_attempt_at, answer, error, ended_at
"""

DELIVERIES = """
SELECT id, event, status, attempts, created_at, next_attempt_at, answer, error, ended_at
  FROM webhook_delivery
 WHERE webhook_id = %(id)s AND (%(status)s::text IS NULL OR status = %(status)s)
 ORDER BY created_at DESC, id LIMIT %(limit)s
"""

DUE = """
SELECT id FROM webhook w
 WHERE disabled_at IS NULL AND id <> ALL(%s)
   AND EXISTS (SELECT FROM webhook_delivery d
                WHERE d.webhook_id = w.id AND d.status = 'waiting' AND d.next_attempt_at <= clock_timestamp())
"""

# Whoever claims one has it until the lease ends: a sender that dies leaves it to another.
CLAIM = """
WITH due AS (
    SELECT d.id, w.url, w.secret FROM webhook_delivery d JOIN webhook w ON w.id = d.webhook_id
     WHERE d.webhook_id = %(webhook_id)s AND w.disabled_at IS NULL AND d.status = 'waiting'
       AND d.next_attempt_at <= clock_timestamp()
     ORDER BY d.next_attempt_at LIMIT 1 FOR UPDATE OF d SKIP LOCKED)
UPDATE webhook_delivery d
   SET attempts = d.attempts + 1, next_attempt_at = clock_timestamp() + %(lease_s)s * interval '1 second'
  FROM due WHERE d.id = due.id
RETURNING d.id::text AS id, d.webhook_id, d.event, d.attempts, d.payload::text AS body, due.url, due.secret
"""

ENDED = """
UPDATE webhook_delivery
   SET status = %(status)s, answer = %(answer)s, error = %(error)s, ended_at = clock_timestamp(),
       next_attempt_at = NULL
 WHERE id = %(id)s AND attempts = %(attempts)s AND status = 'waiting'
"""
LATER = """
UPDATE webhook_delivery
   SET answer = %(answer)s, error = %(error)s,
       next_attempt_at = clock_timestamp() + %(retry_after_s)s * interval '1 second'
 WHERE id = %(id)s AND attempts = %(attempts)s AND status = 'waiting'
"""
WELL = "UPDATE webhook SET failing_since = NULL, last_error = NULL WHERE id = %(webhook_id)s"
UNWELL = """
UPDATE webhook
   SET failing_since = coalesce(failing_since, clock_timestamp()), last_error = %(error)s,
       disabled_at = CASE WHEN %(gone)s THEN clock_timestamp() ELSE disabled_at END
 WHERE id = %(webhook_id)s
"""

# Of whatever state: what was told of it is gone, and what was to be told.
FORGET_SESSION = """
DELETE FROM webhook_delivery
 WHERE payload->'data' @> jsonb_build_object('session_id', %s::bigint)
"""

PRUNE = """
DELETE FROM webhook_delivery WHERE id IN (
    SELECT id FROM (
        SELECT id, status, row_number() OVER (PARTITION BY webhook_id, status = 'waiting'
                                              ORDER BY created_at DESC) AS number
          FROM webhook_delivery) AS numbered
     WHERE number > CASE WHEN status = 'waiting' THEN %s ELSE %s END)
"""


@dataclass(frozen=True)
class Delivery:
    """One attempt to tell a receiver something.

    attempts  with this one
    body      as it is sent, the same each time
    """

    id: str
    webhook_id: int
    event: str
    attempts: int
    body: str
    url: str
    secret: str


class WebhookTable:
    """Receivers and deliveries. Every method raises StorageUnavailable when the database is away."""

    def __init__(self, pool: PsycopgPool) -> None:
        self._pool = pool

    async def all(self) -> list[WebhookView]:
        """Every receiver, in the order in which they were made."""
        async with connect(self._pool) as connection:
            rows = await (await connection.execute(LIST)).fetchall()
        return msgspec.convert(rows, list[WebhookView])

    async def add(self, wanted: WebhookRequest, by: str) -> NewWebhook:
        """Note a receiver; raises TooManyWebhooks."""
        secret = make_secret()
        about = [wanted.url, sorted(wanted.events), secret, by, MAX_WEBHOOKS]
        async with connect(self._pool) as connection, connection.transaction():
            await connection.execute(LOCK)
            made = await (await connection.execute(ADD, about)).fetchone()
            if made is None:
                raise TooManyWebhooks(
                    "there are as many webhooks as there may be",
                    limit=MAX_WEBHOOKS,
                    hint="remove one that is no longer needed: DELETE /webhooks/{id}",
                )
            row = await (await connection.execute(GET, [made["id"]])).fetchone()
        return msgspec.convert({**(row or {}), "secret": secret}, NewWebhook)

    async def remove(self, webhook_id: int) -> None:
        """Forget a receiver and its deliveries; raises WebhookNotFound."""
        async with connect(self._pool) as connection:
            if not (await connection.execute(REMOVE, [webhook_id])).rowcount:
                raise _unknown(webhook_id)

    async def test(self, webhook_id: int) -> DeliveryView:
        """Note a delivery that tells of nothing; raises WebhookNotFound."""
        async with connect(self._pool) as connection:
            row = await (await connection.execute(TEST, {"id": webhook_id})).fetchone()
        if row is None:
            raise _unknown(webhook_id)
        return msgspec.convert(row, DeliveryView)

    async def deliveries(self, webhook_id: int, wanted: DeliveryFilter) -> Deliveries:
        """The newest deliveries to a receiver; raises WebhookNotFound."""
        about = {"id": webhook_id, "status": wanted.status, "limit": wanted.limit}
        async with connect(self._pool) as connection:
            if await (await connection.execute(GET, [webhook_id])).fetchone() is None:
                raise _unknown(webhook_id)
            rows = await (await connection.execute(DELIVERIES, about)).fetchall()
        return Deliveries(deliveries=msgspec.convert(rows, list[DeliveryView]))

    async def due(self, busy: Collection[int]) -> list[int]:
        """Receivers but these that something is to be sent to now."""
        async with connect(self._pool) as connection:
            rows = await (await connection.execute(DUE, [list(busy)])).fetchall()
        return [row["id"] for row in rows]

    async def claim(self, webhook_id: int, lease_s: float) -> Delivery | None:
        """The next attempt for a receiver, which nobody else makes for `lease_s`; None: nothing is due."""
        about = {"webhook_id": webhook_id, "lease_s": lease_s}
        async with connect(self._pool) as connection:
            row = await (await connection.execute(CLAIM, about)).fetchone()
        return None if row is None else Delivery(**row)

    async def arrived(self, delivery: Delivery, answer: int) -> None:
        """Note that it has arrived."""
        async with connect(self._pool) as connection, connection.transaction():
            await _note(connection, ENDED, delivery, status="delivered", answer=answer, error=None)
            await connection.execute(WELL, {"webhook_id": delivery.webhook_id})

    async def missed(self, delivery: Delivery, error: str, answer: int | None, *, gone: bool) -> None:
        """Note that it has not; it is tried again later, unless it was the last attempt.

        gone  the receiver wants nothing any more
        """
        wait_s = None if gone else retry_after_s(delivery.attempts)
        about = {"error": error, "answer": answer}
        async with connect(self._pool) as connection, connection.transaction():
            if wait_s is None:
                await _note(connection, ENDED, delivery, status="failed", **about)
            else:
                await _note(connection, LATER, delivery, retry_after_s=wait_s, **about)
            await connection.execute(
                UNWELL, {"webhook_id": delivery.webhook_id, "error": error, "gone": gone}
            )

    async def forget_session(self, session_id: int) -> None:
        """Forget what receivers were, or are to be, told of a session."""
        async with connect(self._pool) as connection:
            await connection.execute(FORGET_SESSION, [session_id])

    async def prune(self) -> None:
        """Forget the oldest deliveries of each receiver beyond what is kept."""
        async with connect(self._pool) as connection:
            await connection.execute(PRUNE, [MAX_WAITING, MAX_KEPT])


async def _note(connection: Connection, query: str, delivery: Delivery, **about: Any) -> None:
    await connection.execute(query, {**about, "id": delivery.id, "attempts": delivery.attempts})


def _unknown(webhook_id: int) -> WebhookNotFound:
    return WebhookNotFound(f"there is no webhook {webhook_id}", field="webhook_id")
