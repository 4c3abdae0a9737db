"""People, as a request shows them: by a proxy that vouches for them, or by the cookie of a session."""

from typing import Protocol

from starlette.requests import HTTPConnection
from teleop_schema.errors import NotAllowed, StorageUnavailable, Unauthorized

from teleop_runtime.access.forward_auth import ADMIN, VOUCHED, Grant, Vouched
from teleop_runtime.access.principal import Principal
from teleop_runtime.access.sessions import check_own_page, shown_session


class Sessions(Protocol):
    """What is known about people; in the state of a server as `sessions`."""

    async def find(self, key: bytes) -> Principal | None:
        """Whose session, whose id has this hash, it is; None if it is unknown, or has ended."""

    async def person(self, name: str) -> Grant | None:
        """What `people add` has said of somebody; None: nothing."""

    async def ended(self, principal: Principal) -> None:
        """Return once its session has ended, or is for fewer robots."""


async def signed_in(connection: HTTPConnection, session: bytes | None) -> Principal | None:
    """Who has signed in; None if nobody has, or their session has ended.

    session  hash of the session's id that the request shows; None: it shows none

    The proxy's word comes first: it is given for each request, about whoever uses the browser now. Raises
    Unauthorized if the proxy is not understood, NotAllowed for somebody who has no role, and Forbidden for a
    change that no page of this backend asks for.
    """
    vouched: Vouched | Unauthorized | None = connection.scope.get(VOUCHED)
    if isinstance(vouched, Unauthorized):
        raise vouched
    if vouched is None and session is None:
        return None
    sessions = sessions_of(connection)
    found, refusal = None, None
    if vouched is not None:
        try:
            found = principal_of(vouched, await sessions.person(vouched.name))
        except NotAllowed as error:
            refusal = error
    if found is None and session is not None:
        found = await sessions.find(session)
    if found is not None:
        check_own_page(
            connection.scope.get("method"), dict(connection.scope["headers"]), tls=by_tls(connection)
        )
    elif refusal is not None:
        raise refusal
    return found


def principal_of(vouched: Vouched, own: Grant | None) -> Principal:
    """Who somebody is for whom the proxy vouches; raises NotAllowed for somebody who may do nothing.

    own  what `people add` has said of the name. Its robots are the only ones, whatever the groups give; its
         role is for those whose groups give none, but for the one who runs the backend
    """
    grant = vouched.grant or (None if vouched.name.lower() == ADMIN else own)
    if grant is None:
        raise NotAllowed(
            f"the proxy has signed in {vouched.name}, who has no role here",
            hint="give one of the groups a role (LEROBOT_BACKEND_FORWARD_AUTH), or run: people add",
        )
    robot_ids = grant.robot_ids if own is None or own.robot_ids is None else own.robot_ids
    return Principal(vouched.name, grant.role, robot_ids, how="proxy")


def session_shown(connection: HTTPConnection) -> str | None:
    """The session's id that the request shows; None if it shows none."""
    return shown_session(connection.headers.getlist("cookie"), tls=by_tls(connection))


def by_tls(connection: HTTPConnection) -> bool:
    """Whether the client has asked by https, as far as a known proxy says."""
    return connection.scope["scheme"] in ("https", "wss")


def sessions_of(connection: HTTPConnection) -> Sessions:
    """What is known about people; raises StorageUnavailable before the server has started."""
    found: Sessions | None = getattr(connection.state, "sessions", None)
    if found is None:
        raise StorageUnavailable("sessions can't be checked before the backend has started")
    return found
