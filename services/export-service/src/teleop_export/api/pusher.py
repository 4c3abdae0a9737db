"""Who may push to the Hub, by what this service is set to."""

from starlette.requests import Request
from teleop_runtime.access.roles import ALLOWED
from teleop_runtime.serving.guard import caller_of

from teleop_export.planning.push import PushRequest, check_right


def check_pusher(request: Request, wanted: PushRequest, repo_id: str) -> None:
    """Raise NotAllowed if who asks may not push this there."""
    admin = caller_of(request).role in ALLOWED["administer"]
    check_right(wanted, repo_id, request.state.hub_namespaces, admin=admin)
