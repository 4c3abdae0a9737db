"""The test's own look into a database, past every service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg


class Database:
    """One connection of the test's own."""

    def __init__(self, url: str, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.url = url
        self.connection = connection

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator["Database"]:
        """A connection to `url` while the block runs."""
        connection = await asyncpg.connect(url)
        try:
            yield cls(url, connection)
        finally:
            await connection.close()

    async def fetch(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query as dicts."""
        return [dict(row) for row in await self.connection.fetch(query, *values)]

    async def value(self, query: str, *values: Any) -> Any:
        """First column of the first row."""
        return await self.connection.fetchval(query, *values)

    async def frame_indexes(self, session_id: int) -> list[int]:
        """Frame indexes of a session, as stored."""
        rows = await self.connection.fetch(
            "SELECT frame_index FROM teleop_frame WHERE session_id = $1 ORDER BY frame_index", session_id
        )
        return [row["frame_index"] for row in rows]

    async def gaps(self) -> list[tuple[Any, ...]]:
        """Every row of `frame_gap`, by session and first frame."""
        rows = await self.connection.fetch("SELECT * FROM frame_gap ORDER BY session_id, first_frame")
        return [tuple(row.values()) for row in rows]

    async def refuse_frame(self, index: int) -> None:
        """Let the database refuse the content of one frame index, of whichever session."""
        await self.fail_inserts(f"NEW.frame_index = {index}", "22000")

    async def fail_inserts(self, condition: str, sqlstate: str, *, table: str = "teleop_frame") -> None:
        """Let the database fail with `sqlstate` on each row of which `condition` holds, until `heal`."""
        await self.connection.execute(
            f"""CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF {condition} THEN RAISE EXCEPTION 'injected' USING ERRCODE = '{sqlstate}'; END IF;
                    RETURN NEW;
                END $$;
                CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()"""
        )

    async def heal(self) -> None:
        """What `fail_inserts` did is over; the table, which commits go on to use, need not be locked."""
        await self.connection.execute(
            "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
        )

    @asynccontextmanager
    async def commits_blocked(self) -> AsyncIterator[None]:
        """While open, no writer can get past its session row."""
        locker = await asyncpg.connect(self.url)
        try:
            async with locker.transaction():
                await locker.execute("LOCK TABLE teleop_session IN SHARE MODE")
                yield
        finally:
            await locker.close()
