"""People who sign in: who they are, links that are good once, and the sessions of their browsers."""

from teleop_schema.migrations import run_sql

revision = "0032"
down_revision = "0031"

SCHEMA = """
CREATE TABLE person (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL,
    principal_id bigint NOT NULL UNIQUE REFERENCES principal,
    created_at   timestamptz NOT NULL DEFAULT now()
);
-- A proxy may write the same name otherwise, and must not thereby get around the list of its robots.
CREATE UNIQUE INDEX person_name ON person (lower(name));
COMMENT ON TABLE person IS 'who may sign in; what a person may do is said by the principal';

CREATE TABLE sign_in_link (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id  bigint NOT NULL REFERENCES person ON DELETE CASCADE,
    hash       bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX sign_in_link_person ON sign_in_link (person_id);
COMMENT ON TABLE sign_in_link IS 'links by which a person signs in: good once, and for a few minutes';
COMMENT ON COLUMN sign_in_link.hash IS 'SHA-256 of the code in the link';

CREATE TABLE web_session (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    principal_id bigint NOT NULL REFERENCES principal,
    token_id     bigint REFERENCES access_token,
    hash         bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz
);
CREATE INDEX web_session_principal ON web_session (principal_id);
COMMENT ON TABLE web_session IS 'a browser that has signed in';
COMMENT ON COLUMN web_session.token_id IS 'the token that was swapped for it; null: a link was';
COMMENT ON COLUMN web_session.hash IS 'SHA-256 of what the cookie holds, which is not stored';
COMMENT ON COLUMN web_session.last_used_at IS 'to the minute';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP TABLE web_session, sign_in_link, person")
