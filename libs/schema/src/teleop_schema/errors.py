"""Error tree: a class fixes the code, the HTTP status, the WebSocket close code and whether a retry can help.

The instance has the facts: which field, which limit, what to do about it.

`retryable` is sent with every error, and clients act on it. True: the same request can succeed later,
or from the beginning, once time or a person has fixed the cause (space on a disk, a token, an address,
a label). False: the request is refused however often it is sent. Every class sets it explicitly, so
that none inherits it by accident.
"""

from typing import Self

# An error may quote what was sent, but not all of it.
MAX_DETAIL_LENGTH = 1000
# Enough for the path of a nested field; a name in a request may be endless.
MAX_FIELD_LENGTH = 300


class BackendError(Exception):
    """Something went wrong in the backend."""

    code = "internal_error"
    status = 500
    close_code = 1011
    retryable = True
    # Whole seconds to wait before another attempt, which `Retry-After` says; None: nobody knows.
    retry_after_s: int | None = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        field: str | None = None,
        limit: int | float | None = None,
        hint: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        self.detail = (detail or (type(self).__doc__ or "").strip().splitlines()[0])[:MAX_DETAIL_LENGTH]
        self.field = field and field[:MAX_FIELD_LENGTH]
        self.limit = limit
        self.hint = hint
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        super().__init__(self.detail)


class BadInput(BackendError):
    """The request or message can't be understood."""

    code, status, close_code, retryable = "bad_input", 422, 1007, False


class BadRobotId(BadInput):
    """robot_id must be 1 to 64 of A-Z a-z 0-9 _ . - and must not start with a dot or a dash."""

    code, close_code, retryable = "bad_robot_id", 1008, False


class BadMessage(BadInput):
    """A message is malformed: it was not stored."""

    code, retryable = "bad_message", False


class BadCrc(BadMessage):
    """A batch was damaged on the way: its CRC-32C does not match."""

    code, retryable = "bad_crc", True


class MessageTooLarge(BadInput):
    """A message is larger than the limit given in `welcome`."""

    code, status, close_code, retryable = "message_too_large", 413, 1009, False


class ProtocolViolation(BackendError):
    """A message arrived that is not allowed at this point."""

    code, status, close_code, retryable = "protocol_violation", 400, 1002, False


class UnknownSubprotocol(ProtocolViolation):
    """The client speaks only versions of the protocol that this server does not know."""

    code, retryable = "unknown_subprotocol", True  # an admin can update the backend


class UpgradeRequired(BackendError):
    """This address is for WebSocket only."""

    code, status, close_code = "upgrade_required", 426, 1002
    retryable = True  # an admin can let the proxy pass the handshake on


class SessionMismatch(BackendError):
    """The stream is already known, with a different description or from another robot."""

    code, status, close_code, retryable = "session_mismatch", 409, 4408, False


class NotYourStream(SessionMismatch):
    """The stream belongs to whoever knows its secret."""

    code, status, close_code, retryable = "not_your_stream", 403, 4403, False


class Fenced(BackendError):
    """Another connection has taken over this stream."""

    code, status, close_code = "fenced", 409, 4409
    retryable = False  # a retry would take the stream away from the other connection in turn


class NotFound(BackendError):
    """What the request names does not exist."""

    code, status, close_code, retryable = "not_found", 404, 4404, False


class SessionNotFound(NotFound):
    """There is no such session.

    A robot that names a session before its telemetry has arrived hears UnknownSession of video-ingest-service
    instead, and asks again.
    """

    code, retryable = "session_not_found", False

    @classmethod
    def of(cls, *session_ids: int, field: str = "session_id") -> Self:
        """The error that names the sessions."""
        return cls(
            f"there is no session {', '.join(map(str, session_ids))}",
            field=field,
            hint="GET /sessions lists those that there are",
        )


class MethodNotAllowed(BackendError):
    """This address does not take that method."""

    code, status, close_code = "method_not_allowed", 405, 1008
    # An admin can route requests elsewhere, or update a backend that is older than the address.
    retryable = True


class WrongMediaType(BackendError):
    """This address does not accept the media type of the request body."""

    code, status, close_code, retryable = "wrong_media_type", 415, 1008, False


class NotAcceptable(BackendError):
    """None of the media types in Accept can be served."""

    code, status, close_code, retryable = "not_acceptable", 406, 1008, False


class Conflict(BackendError):
    """The request conflicts with the current state of what it names."""

    code, status, close_code, retryable = "conflict", 409, 4410, False


class EpisodeChanged(Conflict):
    """Somebody else has changed the episode since it was read."""

    code, status, retryable = "episode_changed", 409, False


class NothingToUndo(Conflict):
    """Nobody has changed the episode, or every change of it is taken back."""

    code, status, retryable = "nothing_to_undo", 409, False


class ArchiveLost(NotFound):
    """The archived frames of a session can't be read: the file store has lost or changed them."""

    code, retryable = "archive_lost", True  # the files may be put back, and robots may send the frames again


class SessionArchived(Conflict):
    """The session's frames have left the database for the archive."""

    code, status, retryable = "session_archived", 410, True  # an admin can restore the frames


class SessionErased(Conflict):
    """An admin has erased this session for good: nothing of it is taken again."""

    code, status, retryable = "session_erased", 410, False


class DatasetErased(Conflict):
    """An admin has erased this dataset for good: nothing of it is taken again."""

    code, status, retryable = "dataset_erased", 410, False


class Forbidden(BackendError):
    """This caller may not do that."""

    code, status, close_code = "forbidden", 403, 1008
    retryable = True  # an admin can allow it


class Unauthorized(BackendError):
    """The token is unknown, expired or revoked, or this server serves nobody without one."""

    code, status, close_code = "unauthorized", 401, 4401
    retryable = True  # a person can let the robot join again; what it has recorded waits


class NotAllowed(Forbidden):
    """The token is right, but its role, or the robots that it is for, do not include this."""

    code, status, close_code = "not_allowed", 403, 4403
    retryable = True  # the same: another token may include it


class HttpsNeeded(Forbidden):
    """This backend is on the internet, and answers nobody who has come without HTTPS."""

    code, status, close_code = "https_needed", 403, 1008
    retryable = True  # an admin can let the proxy say that the client has come by HTTPS


class EnrolmentFailed(Forbidden):
    """The code is wrong, used, expired or out of tries."""

    code, status, close_code, retryable = "enrolment_failed", 403, 4403, False


class RobotKnown(Forbidden):
    """A fleet's line lets only new robots join, and this one exists."""

    code, status, close_code, retryable = "robot_known", 403, 4403, False


class PoolFull(Forbidden):
    """As many robots have joined with this line as it is for."""

    code, status, close_code, retryable = "pool_full", 403, 4403, True


class JoinDenied(Forbidden):
    """An admin has denied this request to join."""

    code, status, close_code, retryable = "join_denied", 403, 4403, False


class JoinExpired(Forbidden):
    """Nobody has approved this request to join in time."""

    code, status, close_code, retryable = "join_expired", 403, 4403, False


class SignInFailed(Forbidden):
    """The link or the token is wrong, was used or revoked, or has expired."""

    code, status, close_code, retryable = "sign_in_failed", 403, 4403, False


class TooManyAttempts(BackendError):
    """Too many robots try to join, or people to sign in, from one address, or too many wait."""

    code, status, close_code, retryable = "too_many_attempts", 429, 1013, True
    retry_after_s = 60


class RateLimited(BackendError):
    """There are too many requests of this caller, or of this address without a token that is known."""

    code, status, close_code, retryable = "rate_limited", 429, 1013, True
    retry_after_s = 1


class TokenNotFound(NotFound):
    """There is no such token."""

    code, retryable = "token_not_found", False


class PoolNotFound(NotFound):
    """There is no such pool."""

    code, retryable = "pool_not_found", False


class PoolExists(Conflict):
    """There is a pool of that name."""

    code, retryable = "pool_exists", False


class JoinRequestNotFound(NotFound):
    """No robot waits with this code."""

    code, retryable = "join_request_not_found", False


class AuthorityNotFound(NotFound):
    """This backend has no certificate authority of its own."""

    code, retryable = "authority_not_found", False


class PersonNotFound(NotFound):
    """There is no such person."""

    code, retryable = "person_not_found", False


class BodyTooLarge(BackendError):
    """The request body is larger than allowed."""

    code, status, close_code, retryable = "body_too_large", 413, 1009, False


class TooSlow(BackendError):
    """The request body arrived too slowly; a resumable upload keeps what has arrived."""

    code, status, close_code, retryable = "too_slow", 408, 1013, True


class BadRange(BackendError):
    """The range is outside the file."""

    code, status, close_code, retryable = "bad_range", 416, 1008, False


class TargetTooLong(BackendError):
    """The address of the request is longer than allowed."""

    code, status, close_code, retryable = "target_too_long", 414, 1008, False


class HeadersTooLarge(BackendError):
    """The request has more or longer headers than allowed."""

    code, status, close_code, retryable = "headers_too_large", 431, 1008, False


class TooManyConnections(BackendError):
    """This process has no room for another connection."""

    code, status, close_code, retryable = "too_many_connections", 429, 1013, True


class StorageUnavailable(BackendError):
    """The database can't be reached. Nothing is lost: the robot keeps its samples and sends them again."""

    code, status, close_code, retryable = "storage_unavailable", 503, 1013, True
    retry_after_s = 1


class Overloaded(BackendError):
    """The backend has run out of file handles or memory; it answers again once other requests are done."""

    code, status, close_code, retryable = "overloaded", 503, 1013, True
    retry_after_s = 1


class NoSpace(BackendError):
    """The disk has no room for this."""

    code, status, close_code, retryable = "no_space", 507, 1013, True
