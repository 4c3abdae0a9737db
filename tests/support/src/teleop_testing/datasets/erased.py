"""Erasures in the database as telemetry-service leaves them when an admin asks for one."""

from typing import Any

from teleop_testing.backends.database import Database

OF_SESSION = """
INSERT INTO erasure (session_id, stream_id, robot_id, asked_by)
SELECT id, stream_id, robot_id, 'anna' FROM teleop_session WHERE id = $1 RETURNING id
"""
OF_DATASET = "INSERT INTO erasure (robot_id, dataset, asked_by) VALUES ($1, $2, 'anna') RETURNING id"
SHARES = "INSERT INTO erasure_share (erasure_id, service) SELECT $1, unnest($2::text[])"
SERVICES = ["export-service", "video-ingest-service", "telemetry-service"]


async def ask_session(database: Database, session: int) -> int:
    """Number of the erasure of a session."""
    erasure: int = await database.value(OF_SESSION, session)
    await database.connection.execute(SHARES, erasure, SERVICES)
    return erasure


async def ask_dataset(database: Database, robot_id: str, dataset: str) -> int:
    """Number of the erasure of a dataset."""
    erasure: int = await database.value(OF_DATASET, robot_id, dataset)
    await database.connection.execute(SHARES, erasure, SERVICES[1:2])
    return erasure


async def share_of(database: Database, erasure: int, service: str) -> dict[str, Any]:
    """The share of a service."""
    shares = await database.fetch(
        "SELECT * FROM erasure_share WHERE erasure_id = $1 AND service = $2", erasure, service
    )
    return dict(shares[0])
