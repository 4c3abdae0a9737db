"""Which role may do what."""

from typing import Literal, get_args

# From where callers may come without a token: `ProcessSettings` says what it means.
Exposure = Literal["local", "lab", "internet"]
# What a principal is; also the kind that its tokens show.
Role = Literal["robot", "viewer", "operator", "admin", "metrics"]
# What a person can be.
PersonRole = Literal["viewer", "operator", "admin"]
# What an address asks of whoever calls it.
Need = Literal[
    "nothing",
    "known",
    "metrics",
    "read",
    "browse",
    "send",
    "verify",
    "operate",
    "push",
    "administer",
    "grant",
]

ROLES: tuple[Role, ...] = get_args(Role)
# From the least to the most.
PERSON_ROLES: tuple[PersonRole, ...] = get_args(PersonRole)
NEEDS: tuple[Need, ...] = get_args(Need)

ALLOWED: dict[Need, frozenset[Role]] = {
    "nothing": frozenset(ROLES),
    # Whoever it is, the backend knows who.
    "known": frozenset(ROLES),
    "metrics": frozenset({"metrics", "viewer", "operator", "admin"}),
    # What belongs to one robot; a robot reads its own: receipts, sessions, versions of its datasets.
    "read": frozenset({"robot", "viewer", "operator", "admin"}),
    # What belongs to several robots at once: exports.
    "browse": frozenset({"viewer", "operator", "admin"}),
    "send": frozenset({"robot", "admin"}),
    # Reads every byte of a backup; the agent asks for it, of its own robot's.
    "verify": frozenset({"robot", "operator", "admin"}),
    # Whatever leaves recorded data where it is: edit, hide, label, export, repair.
    "operate": frozenset({"operator", "admin"}),
    # What leaves for the Hub; teleop_export.planning.push says what of it only an admin may.
    "push": frozenset({"operator", "admin"}),
    # Whatever removes recorded data, and reading whose tokens there are.
    "administer": frozenset({"admin"}),
    # Making and revoking tokens, and letting people in. A network that is trusted does not include it: a
    # token that anybody could make today would still work when the network is not trusted any more.
    "grant": frozenset({"admin"}),
}
# What is noted in the table `audit`, if it was done.
AUDITED: frozenset[Need] = frozenset({"operate", "push", "administer", "grant"})


def roles_for(need: Need) -> str:
    """The roles that may do it, for a message."""
    return " or ".join(role for role in ROLES if role in ALLOWED[need])
