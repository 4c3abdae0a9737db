"""Whether a service can use a database now: it answers, accepts writes, and is migrated.

Every service asks in its own way (asyncpg, psycopg); this module judges the answers.
"""

from typing import LiteralString

from teleop_schema.errors import StorageUnavailable
from teleop_schema.migrations.revision import newest_revision

from teleop_runtime.trouble import MIGRATE, NOT_MIGRATED, READ_ONLY, TO_PRIMARY

# The role of a service may not be allowed to read the revision; then it only learns whether there is one.
STATE: LiteralString = """
SELECT current_setting('transaction_read_only') = 'on' AS read_only,
       to_regclass('alembic_version') IS NOT NULL AS migrated,
       coalesce(has_table_privilege(to_regclass('alembic_version'), 'SELECT'), false) AS readable
"""
REVISION: LiteralString = "SELECT max(version_num) AS revision FROM alembic_version"


def judge(*, read_only: bool, migrated: bool, revision: str | None) -> None:
    """Raise StorageUnavailable with the reason unless the database can be used.

    revision  of the database; None: not known. A revision newer than this release is fine, because migrations
              only add to what older services use
    """
    if read_only:
        raise StorageUnavailable(READ_ONLY, hint=TO_PRIMARY)
    if not migrated:
        raise StorageUnavailable(f"{NOT_MIGRATED}; {MIGRATE}")
    if revision is not None and revision < newest_revision():
        raise StorageUnavailable(
            f"the database is at migration {revision}, this release needs {newest_revision()}; {MIGRATE}"
        )
