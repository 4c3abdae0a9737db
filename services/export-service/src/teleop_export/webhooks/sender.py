"""Sends what is due to receivers. Any number of senders may work on one database."""

import asyncio
import socket
import ssl
import time

import httpx
from teleop_runtime.background import Background
from teleop_runtime.logs import get_logger
from teleop_schema.errors import BadInput

from teleop_export.webhooks.rules import PORTS, Allowed, chosen_address, read_url, sign
from teleop_export.webhooks.table import Delivery, WebhookTable

log = get_logger(__name__)

LOOK_EVERY_S = 1.0
PRUNE_EVERY_S = 60.0
# For everything: name, connection, answer.
ANSWER_WITHIN_S = 15.0
# Another sender takes over then; this one has given up long before.
LEASE_S = 60.0


async def resolve(host: str, port: int) -> list[str]:
    """The addresses that a name stands for; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Sender:
    """Tells receivers, each in a lane of its own, so that none waits for another."""

    def __init__(self, table: WebhookTable, allowed: Allowed) -> None:
        self._table = table
        self._allowed = allowed
        self._busy: set[int] = set()

    def work_on(self, background: Background) -> None:
        """Send what is due, as long as `background` goes on."""
        background.keep("sending of webhooks", self._work)
        background.every(PRUNE_EVERY_S, "old deliveries of webhooks", self._table.prune)

    async def _work(self) -> None:
        self._busy.clear()
        async with (
            httpx.AsyncClient(
                verify=ssl.create_default_context(),
                trust_env=False,
                follow_redirects=False,
                timeout=ANSWER_WITHIN_S,
                limits=httpx.Limits(max_keepalive_connections=0),
                headers={"user-agent": "lerobot-backend", "accept-encoding": "identity"},
            ) as client,
            asyncio.TaskGroup() as lanes,
        ):
            while True:
                for webhook_id in await self._table.due(self._busy):
                    self._busy.add(webhook_id)
                    lanes.create_task(self._lane(client, webhook_id))
                await asyncio.sleep(LOOK_EVERY_S)

    async def _lane(self, client: httpx.AsyncClient, webhook_id: int) -> None:
        """Send one receiver all that is due, one after the other."""
        try:
            while (delivery := await self._table.claim(webhook_id, LEASE_S)) is not None:
                await self._send(client, delivery)
        finally:
            self._busy.discard(webhook_id)

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        answer = None
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await self._post(client, delivery)
            error = _refusal(answer)
        except BadInput as refused:
            error = refused.detail
        except TimeoutError:
            error = f"no answer within {ANSWER_WITHIN_S:.0f} s"
        except (OSError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as failure:
            error = str(failure) or type(failure).__name__
        if error is None:
            await self._table.arrived(delivery, answer or 0)
            return
        log.warning(
            "a webhook was not delivered",
            webhook_id=delivery.webhook_id,
            delivery_id=delivery.id,
            attempts=delivery.attempts,
            error=error,
        )
        await self._table.missed(delivery, error, answer, gone=answer == httpx.codes.GONE)

    async def _post(self, client: httpx.AsyncClient, delivery: Delivery) -> int:
        """The status of the receiver's answer, of which nothing else is read."""
        self._allowed.check_url(delivery.url)
        url = read_url(delivery.url)
        host = url.hostname or ""
        found = await resolve(host, url.port or PORTS[url.scheme])
        # The name is resolved once: a connection is made to what was looked at, and to nothing else.
        address = chosen_address(found, self._allowed, url.scheme)
        body = delivery.body.encode()
        headers = sign(delivery.secret, delivery.id, int(time.time()), body)
        async with client.stream(
            "POST",
            httpx.URL(delivery.url).copy_with(host=address),
            content=body,
            headers={**headers, "host": url.netloc, "content-type": "application/json"},
            extensions={"sni_hostname": host},
        ) as response:
            return response.status_code


def _refusal(answer: int) -> str | None:
    """Why a delivery with this answer has not arrived; None: it has."""
    if 200 <= answer < 300:
        return None
    if 300 <= answer < 400:
        return f"the receiver answered {answer}, and redirects are not followed"
    return f"the receiver answered {answer}"
