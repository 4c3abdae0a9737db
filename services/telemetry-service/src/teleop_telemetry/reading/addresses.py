"""What the addresses of telemetry-service name."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from teleop_schema.errors import SessionNotFound
from teleop_schema.identifiers import MAX_ID, RobotId

TAGS = {
    "authority": "What signs the certificate of this backend",
    "audit": "What was changed, and by whom",
    "erasures": "What was erased for good, or is being erased",
    "join": "Where a robot gets its token",
    "me": "Who calls",
    "people": "Who may sign in",
    "robots": "The robots that have ever recorded",
    "sessions": "Recordings, their episodes, their frames, and their accounts",
    "sign-in": "Where a person gets a session",
    "sign-out": "Where it ends",
    "tokens": "Who may do what",
    "ws": "Where robots send frames, as they are recorded",
}
NAMES = {
    "robot_id": RobotId,
    "person": Annotated[str, Meta(description="Name of a person", examples=["anna"])],
    "erasure_id": Annotated[int, Meta(ge=0, description="Number of the erasure", examples=[2])],
    "token_id": Annotated[int, Meta(ge=0, description="Number of the token", examples=[3])],
    "session_id": Annotated[int, Meta(ge=0, description="Number of the session", examples=[7])],
    "episode_index": Annotated[
        int, Meta(ge=0, description="Index of the episode in its session, from 0", examples=[0])
    ],
}


def session_id_of(request: Request) -> int:
    """Session id of the address; raises SessionNotFound for one that no session can have."""
    session_id: int = request.path_params["session_id"]
    if not 1 <= session_id <= MAX_ID:
        raise SessionNotFound.of(session_id)
    return session_id
