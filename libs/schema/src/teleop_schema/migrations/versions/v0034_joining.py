"""How robots join without a line of their own: the pools of fleets, and requests that wait for an admin."""

from teleop_schema.migrations import run_sql

revision = "0034"
down_revision = "0033"

SCHEMA = """
CREATE TABLE robot_pool (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    hash       bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    beginning  text NOT NULL,
    prefix     text NOT NULL,
    max_robots int CHECK (max_robots > 0),
    approve    boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    removed_at timestamptz
);
CREATE UNIQUE INDEX robot_pool_name ON robot_pool (name) WHERE removed_at IS NULL;
COMMENT ON TABLE robot_pool IS 'what lets the new robots of a fleet join, with one line for all of them';
COMMENT ON COLUMN robot_pool.hash IS 'SHA-256 of the token in the line, which is not stored';
COMMENT ON COLUMN robot_pool.beginning IS 'of the token in the line';
COMMENT ON COLUMN robot_pool.prefix IS 'what the names of its robots begin with';
COMMENT ON COLUMN robot_pool.max_robots IS 'how many robots may join; null: any number';
COMMENT ON COLUMN robot_pool.approve IS 'whether each waits until an admin approves';

CREATE TABLE join_request (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    robot_id    text NOT NULL,
    hash        bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    code        text NOT NULL UNIQUE,
    pool_id     bigint REFERENCES robot_pool,
    address     text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    approved_at timestamptz,
    denied_at   timestamptz,
    joined_at   timestamptz,
    token_id    bigint REFERENCES access_token ON DELETE SET NULL
);
CREATE INDEX join_request_robot_id ON join_request (robot_id);
CREATE INDEX join_request_pool ON join_request (pool_id);
CREATE INDEX join_request_token ON join_request (token_id);
COMMENT ON TABLE join_request IS 'computers of robots that have asked to join, with a pool or without';
COMMENT ON COLUMN join_request.hash IS 'SHA-256 of the secret by which the computer is known again';
COMMENT ON COLUMN join_request.code IS 'by which an admin tells it from others';
COMMENT ON COLUMN join_request.address IS 'where it was asked from; of IPv6, the network';
COMMENT ON COLUMN join_request.expires_at IS 'when it stops waiting';
COMMENT ON COLUMN join_request.token_id IS 'the newest token that it was given';
"""


def upgrade() -> None:
    run_sql(SCHEMA)


def downgrade() -> None:
    run_sql("DROP TABLE join_request, robot_pool")
