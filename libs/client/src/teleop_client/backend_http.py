"""Requests to the backend over HTTP, and whether to retry after a refusal."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urljoin

import aiohttp
import msgspec
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.words import shown

from teleop_client.address import check_backend_url
from teleop_client.credentials import Tokens, UnusableCredentials
from teleop_client.refusals import Problem, may_pass, read_problem, read_retry_after
from teleop_client.unreachable import untrusted, why_unreachable

# A wireless link that has just come back needs some seconds for its first packets.
CONNECT_S = 15.0
# The server may have to assemble and hash a file of 50 GB before it answers.
ANSWER_S = 900.0
# The list of a dataset with 100,000 files has about 20 MB.
MAX_ANSWER_BYTES = 32 * 1024 * 1024
# Longer than any error of the backend; a proxy's page is cut off here.
MAX_PROBLEM_BYTES = 64 * 1024

PROXY_LIMIT = "; does a proxy on the way limit the size of requests? In nginx: client_max_body_size 0;"


class HttpFailure(Exception):
    """The backend did not do what was requested; the text says why, and is fit for terminals and logs.

    problem  the backend's problem document; None if the backend was not reached
    code     the problem's
    """

    def __init__(self, detail: str, problem: Problem | None = None) -> None:
        super().__init__(shown(detail))
        self.problem = problem
        self.code = None if problem is None else problem.code


class Refused(HttpFailure):
    """The backend refuses this, however often it is asked."""


class Interrupted(HttpFailure):
    """It did not work this time, but may work the next time.

    progressed  whether bytes were transferred before
    untrusted   whether nobody whom this machine trusts has signed the certificate
    retry_after_s
                seconds after which the backend wants to be asked again, at the soonest
    """

    def __init__(
        self,
        detail: str,
        problem: Problem | None = None,
        *,
        progressed: bool = False,
        untrusted: bool = False,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(detail, problem)
        self.retry_after_s = retry_after_s
        self.progressed = progressed
        self.untrusted = untrusted


class BackendHttp:
    """One backend over HTTP, through one pool of connections.

        async with BackendHttp("ws://localhost:8000") as backend: ...

    Every method raises Refused or Interrupted, nothing else, for whatever the network or the backend does.
    """

    def __init__(
        self,
        backend_url: str,
        *,
        tokens: Tokens | None = None,
        robot_id: str | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """
        backend_url  http(s):// or ws(s)://; raises ValueError for any other address
        tokens       among which to look for the one for this backend and this robot
        robot_id     None: a person asks
        trust        how to know the backend; None: as the tokens say
        """
        self.url = "http" + check_backend_url(backend_url).removeprefix("ws")
        # This client could not read an answer that something in between has compressed.
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "lerobot-robot-backend"}
        self._tokens = tokens
        self._robot_id = robot_id
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "BackendHttp":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def request(
        self,
        method: str,
        address: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        patience_s: float | None = ANSWER_S,
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, asyncio.Timeout]]:
        """The answer to a request, its body not yet read, with the deadline, which the caller may move.

        address  relative to the backend's address, or absolute (as in a Location header)
        """
        try:
            async with (
                asyncio.timeout(patience_s) as deadline,
                self._open().request(
                    method,
                    self.address(address),
                    headers={**self._authorization(), **(headers or {})},
                    data=data,
                    # A redirect could carry the token to another host.
                    allow_redirects=False,
                    ssl=self._ssl(),
                ) as response,
            ):
                if response.status >= 300:
                    raise await _failure(response, self.url)
                yield response, deadline
        except TimeoutError:
            raise Interrupted(f"{self.url} does not answer") from None
        except UnusableCredentials as error:
            raise Interrupted(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            unknown = isinstance(error, aiohttp.ClientConnectorCertificateError)
            raise Interrupted(f"{self.url}: {_reason(error)}", untrusted=unknown) from error

    async def ask[T](
        self, method: str, address: str, answer: type[T], *, body: object = None, patience_s: float = ANSWER_S
    ) -> T:
        """Send `body` as JSON, and return the answer's JSON as an `answer`."""
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        async with self.request(method, address, headers=headers, data=data, patience_s=patience_s) as (
            response,
            _,
        ):
            content = await read_at_most(response, MAX_ANSWER_BYTES)
        try:
            return msgspec.json.decode(content, type=answer)
        except DECODE_ERRORS as error:
            raise Interrupted(f"{self.url}{address} sent an answer that can't be read: {error}") from error

    def address(self, address: str) -> str:
        """`address` as an absolute one; addresses of other hosts are never called."""
        if address.startswith("/"):
            return self.url + address
        absolute = urljoin(self.url + "/", address)
        if not absolute.startswith(self.url + "/"):
            raise Interrupted(f"{self.url} redirects to {absolute}, which is not the backend")
        return absolute

    def _authorization(self) -> dict[str, str]:
        return self._tokens.header_for(self.url, self._robot_id) if self._tokens else {}

    def _ssl(self) -> ssl.SSLContext | bool:
        found = self._tokens.trust_for(self.url, self._robot_id) if self._tokens else None
        return self._trust or found or True

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                # No limit in all, as a file may take hours; each request sets its own.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                # A small answer could unpack to gigabytes; this client has asked for none that is packed.
                auto_decompress=False,
                # A robot connects to its backend directly, and ignores proxies that the environment names.
                trust_env=False,
            )
        return self._session


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; raises Interrupted if it is longer than `limit` bytes."""
    pieces = bytearray()
    async for piece in response.content.iter_any():
        pieces += piece
        if len(pieces) > limit:
            raise Interrupted(f"{response.url} answered with more than {limit} bytes")
    return bytes(pieces)


def dataset_address(robot_id: str, dataset: str, *suffix: str) -> str:
    """`/datasets/{robot}/{name}/…`, quoted."""
    return "/datasets/" + "/".join(quote(part) for part in (robot_id, dataset, *suffix))


def _reason(error: Exception) -> str:
    """Why the backend was not reached, in plainer words than the library's where possible."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        found = error.certificate_error
        return untrusted(found) if isinstance(found, ssl.SSLCertVerificationError) else str(found)
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return why_unreachable(cause) if isinstance(cause, OSError) else str(error) or type(error).__name__


async def _failure(response: aiohttp.ClientResponse, url: str) -> Refused | Interrupted:
    """What an answer other than success means."""
    problem = read_problem(await read_at_most(response, MAX_PROBLEM_BYTES))
    wait_s = read_retry_after(response.headers.get("Retry-After"))
    if problem is None:
        detail = f"{url} answers {response.status} to {response.method} {response.url.path}"
        if response.method == "HEAD":
            # HTTP lets nobody say why in such an answer; whatever is asked next will.
            return Interrupted(detail, retry_after_s=wait_s)
        limit = PROXY_LIMIT if response.status == 413 else ""
        return Interrupted(f"{detail}, which is not how a backend answers{limit}")
    if may_pass(response.status, problem):
        return Interrupted(f"{problem.code}: {problem}", problem, retry_after_s=wait_s)
    return Refused(str(problem), problem)
