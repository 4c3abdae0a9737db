"""Migrations of the one database, as raw SQL."""


def run_sql(statements: str) -> None:
    """Run any number of SQL statements in the migration's transaction."""
    # Here, because servers import `revision`, and start without alembic.
    from alembic import op

    connection = op.get_bind().connection.driver_connection
    assert connection is not None  # noqa: S101
    connection.execute(statements)
