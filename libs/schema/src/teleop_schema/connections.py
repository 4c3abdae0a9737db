"""The session settings that every connection needs, whatever its role, database or server has set.

They are set after connecting, because poolers such as PgBouncer refuse start parameters
that they do not know.
"""

from typing import LiteralString

DURABLE = ("on", "remote_apply")

# Texts and numbers are read as PostgreSQL's own defaults write them. What a role's time-outs would end is
# bounded by the services themselves. The server ends a transaction whose client is out of reach after
# 10 + 3 * 5 s, and lets go of its locks; and a statement whose caller has closed its
# connection. An acknowledgement is a commit on disk: no less than `on`.
# Not among them: search_path, which says where an installation keeps its tables, and whether it is read-only,
# which somebody may want.
PREPARE: LiteralString = """
SELECT set_config(name, CASE WHEN name = 'synchronous_commit' AND current_setting(name) = 'remote_apply'
                             THEN 'remote_apply' ELSE value END, false)
  FROM (VALUES ('application_name', 'lerobot-backend'),
               ('synchronous_commit', 'on'),
               ('client_encoding', 'UTF8'),
               ('DateStyle', 'ISO, MDY'),
               ('IntervalStyle', 'postgres'),
               ('TimeZone', 'UTC'),
               ('bytea_output', 'hex'),
               ('extra_float_digits', '1'),
               ('standard_conforming_strings', 'on'),
               ('default_transaction_isolation', 'read committed'),
               ('statement_timeout', '0'),
               ('lock_timeout', '0'),
               ('idle_in_transaction_session_timeout', '0'),
               ('idle_session_timeout', '0'),
               ('transaction_timeout', '0'),
               ('client_connection_check_interval', '1s'),
               ('tcp_keepalives_idle', '10'),
               ('tcp_keepalives_interval', '5'),
               ('tcp_keepalives_count', '3')) AS wanted (name, value)
 WHERE current_setting(name, true) IS NOT NULL
"""
