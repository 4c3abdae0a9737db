"""Webhooks: receivers, and what they are to be told, noted in the transaction that it is about.

Both tables are written by export-service. What other services do reaches them by triggers, so that no way to
end a session can forget it, and a transaction that is rolled back tells nobody.
"""

from teleop_schema.migrations import run_sql

revision = "0039"
down_revision = "0038"

TABLES = """
CREATE TABLE webhook (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    url           text NOT NULL,
    events        text[] NOT NULL,
    secret        text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    created_by    text NOT NULL,
    failing_since timestamptz,
    last_error    text,
    disabled_at   timestamptz
);
COMMENT ON TABLE webhook IS 'who is told what happens';
COMMENT ON COLUMN webhook.secret IS 'the key that requests are signed with; nobody but the sender needs it';

CREATE TABLE webhook_delivery (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    webhook_id      bigint NOT NULL REFERENCES webhook ON DELETE CASCADE,
    event           text NOT NULL,
    payload         jsonb NOT NULL,
    status          text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'delivered', 'failed')),
    attempts        integer NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_attempt_at timestamptz DEFAULT clock_timestamp(),
    answer          integer,
    error           text,
    ended_at        timestamptz,
    CHECK ((status = 'waiting') = (ended_at IS NULL)),
    CHECK ((status = 'waiting') = (next_attempt_at IS NOT NULL))
);
CREATE INDEX webhook_delivery_made ON webhook_delivery (webhook_id, created_at DESC);
CREATE INDEX webhook_delivery_due ON webhook_delivery (webhook_id, next_attempt_at) WHERE status = 'waiting';
COMMENT ON TABLE webhook_delivery IS 'what a receiver is to be told, or was';
COMMENT ON COLUMN webhook_delivery.next_attempt_at IS
    'while it is being tried, when another process may do so: its sender has died then';

CREATE FUNCTION tell_webhooks(event text, data jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
INSERT INTO webhook_delivery (webhook_id, event, payload)
SELECT id, event, jsonb_build_object(
           'type', event,
           'timestamp', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           'data', data)
  FROM webhook WHERE disabled_at IS NULL AND event = ANY(events);
$$;
COMMENT ON FUNCTION tell_webhooks IS 'note for each receiver that wants to know of the event what it is told';
"""

TRIGGERS = """
CREATE FUNCTION tell_session_complete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM tell_webhooks('session.complete', jsonb_build_object(
        'session_id', NEW.id, 'robot_id', NEW.robot_id, 'frames', NEW.next_frame_index));
    RETURN NULL;
END $$;
CREATE TRIGGER session_complete AFTER UPDATE ON teleop_session FOR EACH ROW
    WHEN (OLD.status <> 'complete' AND NEW.status = 'complete') EXECUTE FUNCTION tell_session_complete();
CREATE TRIGGER session_made_complete AFTER INSERT ON teleop_session FOR EACH ROW
    WHEN (NEW.status = 'complete') EXECUTE FUNCTION tell_session_complete();

CREATE FUNCTION tell_export_ended() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM tell_webhooks('export.' || NEW.status, jsonb_build_object(
        'export_id', NEW.id, 'repo_id', NEW.request->>'repo_id', 'fingerprint', NEW.fingerprint,
        'numbers', NEW.numbers, 'problem', NEW.problem));
    RETURN NULL;
END $$;
CREATE TRIGGER export_ended AFTER UPDATE ON export FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND NEW.status IN ('done', 'failed'))
    EXECUTE FUNCTION tell_export_ended();
"""


def upgrade() -> None:
    run_sql(TABLES + TRIGGERS)


def downgrade() -> None:
    run_sql("""
        DROP TRIGGER export_ended ON export;
        DROP TRIGGER session_complete ON teleop_session;
        DROP TRIGGER session_made_complete ON teleop_session;
        DROP FUNCTION tell_export_ended, tell_session_complete, tell_webhooks;
        DROP TABLE webhook_delivery, webhook;
    """)
