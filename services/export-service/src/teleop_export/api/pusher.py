"""Who may push to the Hub, by what this service is set to."""

from starlette.requests import Request
from teleop_runtime.access.roles import ALLOWED
from teleop_runtime.serving.guard import caller_of

from teleop_export.planning.push import Destinations, PushRequest, check_right, destinations


def check_pusher(request: Request, wanted: PushRequest, repo_id: str) -> None:
    """Raise NotAllowed if who asks may not push this there."""
    check_right(wanted, repo_id, request.state.hub_namespaces, admin=_is_admin(request))


def destinations_of(request: Request) -> Destinations:
    """Where who asks may push to."""
    return destinations(request.state.hub_namespaces, admin=_is_admin(request))


def _is_admin(request: Request) -> bool:
    return caller_of(request).role in ALLOWED["administer"]
