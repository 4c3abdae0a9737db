"""Who may do what: principals, their tokens, enrolments of robots, and what was done."""

from teleop_schema.migrations import run_sql

revision = "0031"
down_revision = "0030"

SCHEMA = """
CREATE TABLE principal (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    role       text NOT NULL CHECK (role IN ('robot', 'viewer', 'operator', 'admin', 'metrics')),
    robot_ids  text[] CHECK (cardinality(robot_ids) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (role, name),
    CHECK (role <> 'robot' OR robot_ids = ARRAY[name])
);
COMMENT ON TABLE principal IS 'a person, robot or program that has tokens';
COMMENT ON COLUMN principal.robot_ids IS 'the only robots whose data it may touch; null: all';

CREATE TABLE access_token (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    principal_id bigint NOT NULL REFERENCES principal,
    hash         bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    prefix       text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX access_token_principal ON access_token (principal_id);
COMMENT ON COLUMN access_token.hash IS 'SHA-256 of the token, which is not stored';
COMMENT ON COLUMN access_token.last_used_at IS 'to the minute';

CREATE TABLE enrolment (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    robot_id   text NOT NULL,
    code_name  text NOT NULL,
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    tries      int NOT NULL DEFAULT 0,
    used_at    timestamptz
);
CREATE INDEX enrolment_code_name ON enrolment (code_name);
COMMENT ON TABLE enrolment IS 'codes by which a robot gets its token: good once, and for a few minutes';
COMMENT ON COLUMN enrolment.hash IS 'SHA-256 of the code';

CREATE TABLE audit (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT now(),
    principal    text NOT NULL,
    role         text NOT NULL,
    token_prefix text,
    address      text,
    action       text NOT NULL,
    subject      text NOT NULL
);
COMMENT ON TABLE audit IS 'what was changed, by whom; services add to it, and change nothing in it';
COMMENT ON COLUMN audit.token_prefix IS 'beginning of the token; null: none was shown';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP TABLE audit, enrolment, access_token, principal")
