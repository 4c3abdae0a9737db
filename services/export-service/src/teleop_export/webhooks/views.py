"""What the addresses of webhooks take and answer."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct
from teleop_schema.identifiers import MAX_ID

MAX_URL = 2000
# Of one webhook; the newest are kept.
MAX_KEPT = 1000

Event = Literal["session.complete", "export.done", "export.failed"]
DeliveryStatus = Literal["waiting", "delivered", "failed"]
WebhookId = Annotated[int, Meta(ge=1, le=MAX_ID)]


class WebhookRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whom to tell what.

    url     https, or http in a network that is allowed; requests are sent there as POST
    events  what to tell of
    """

    url: Annotated[str, Meta(min_length=1, max_length=MAX_URL)]
    events: Annotated[frozenset[Event], Meta(min_length=1)]


class WebhookView(Struct, kw_only=True):
    """One receiver.

    url            where requests are sent
    events         what it is told of
    created_by     who has asked for it
    waiting        deliveries that have not arrived yet
    failing_since  when its answers, or their lack, began to be errors; null: the last delivery arrived
    last_error     what was wrong the last time; null: nothing
    disabled_at    when it answered 410 Gone, and so gets nothing more; a test enables it again
    """

    id: int
    url: str
    events: list[Event]
    created_at: datetime
    created_by: str
    waiting: int
    failing_since: datetime | None
    last_error: str | None
    disabled_at: datetime | None


class NewWebhook(WebhookView, kw_only=True):
    """One receiver, and the key with which it checks who has sent a request.

    secret  in the form of Standard Webhooks; it is shown once, and never again
    """

    secret: str


class Webhooks(Struct, kw_only=True):
    """All of them.

    webhooks  in the order in which they were made
    """

    webhooks: list[WebhookView]


class DeliveryView(Struct, kw_only=True):
    """One request to a receiver.

    id               its `webhook-id`: the same whenever it is tried again
    event            what it tells of
    status           waiting: it will be tried (again); failed: it was given up
    attempts         how often it was tried
    next_attempt_at  when it is tried again; null: it is not
    answer           status of the last answer; null: there was none
    error            what was wrong with the last attempt; null: nothing
    ended_at         when it arrived, or was given up
    """

    id: UUID
    event: str
    status: DeliveryStatus
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    answer: int | None
    error: str | None
    ended_at: datetime | None


class DeliveryFilter(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which deliveries to list.

    status  how far they are
    limit   the newest so many
    """

    status: DeliveryStatus | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_KEPT)] = 100


class Deliveries(Struct, kw_only=True):
    """The newest deliveries first; of each receiver, a thousand that have ended are kept.

    deliveries  that were asked for
    """

    deliveries: list[DeliveryView]
