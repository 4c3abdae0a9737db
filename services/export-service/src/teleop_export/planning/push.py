"""What can be said about a push to the Hugging Face Hub. Pure."""

import re
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct
from teleop_runtime.serving.problems import Problem
from teleop_schema.errors import BadInput, NotAllowed

NAMESPACES = "LEROBOT_BACKEND_HUB_NAMESPACES"
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)

PushStatus = Literal["waiting", "queued", "running", "done", "failed"]

TokenName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$(?!\n)")]
# What the Hub's own tokens begin with. One of these must never be stored, nor be repeated in an error.
TOKEN_PREFIXES = ("hf_", "api_org_")


class PushRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to push a dataset to the repository of its name.

    private     the repository is created private, and a public one that exists already is refused
    overwrite   replace what is there, although it does not come from these recordings
    token_name  a file in the worker's HUB_TOKENS folder; by default the worker's own token (HF_TOKEN)
    """

    private: bool = True
    overwrite: bool = False
    token_name: TokenName | None = None


class PushView(Struct, frozen=True, kw_only=True):
    """How far a push is.

    private     whether the repository is created private
    overwrite   whether it replaces what is there, although that does not come from these recordings
    done_bytes  uploaded, of total_bytes; readers see nothing of them before the one commit at the end
    error       why it failed, or while it is queued, why the last attempt did not succeed
    commit_url  what the tag points to, once it is done
    """

    status: PushStatus
    private: bool
    overwrite: bool
    token_name: str | None
    done_bytes: int
    total_bytes: int
    error: Problem | None
    commit_url: str | None
    asked_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Destinations(Struct, frozen=True, kw_only=True):
    """Where on the Hub a caller may push to, and what.

    namespaces  the users and organizations, in lower case; null: all that the backend's token may write to;
                empty: none
    public      whether it may publish
    overwrite   whether it may replace a dataset of other recordings
    """

    namespaces: list[str] | None
    public: bool
    overwrite: bool


def destinations(namespaces: frozenset[str], *, admin: bool) -> Destinations:
    """What `check_right` lets a caller do."""
    told = None if admin and not namespaces else sorted(namespaces)
    return Destinations(namespaces=told, public=admin, overwrite=admin)


def check_right(push: PushRequest, repo_id: str, namespaces: frozenset[str], *, admin: bool) -> None:
    """Raise NotAllowed for a push that goes where, or does what, this caller may not.

    namespaces  of the Hub that this backend may push to; none: those that its token may write to, for admins
    """
    if namespaces and repo_id.partition("/")[0].lower() not in namespaces:
        raise NotAllowed(
            f"this backend does not push to {repo_id!r}",
            field="repo_id",
            hint=f"{NAMESPACES} names the users and organizations that it may push to",
        )
    if admin:
        return
    if not namespaces:
        raise NotAllowed(
            "only an admin may push to the Hub, as long as this backend may push anywhere",
            hint=f"with {NAMESPACES}, operators may push privately to those that it names",
        )
    for name, wanted in (("private", not push.private), ("overwrite", push.overwrite)):
        if wanted:
            told = "publish a dataset" if name == "private" else "replace a dataset of other recordings"
            raise NotAllowed(f"only an admin may {told}", field=name)


def read_namespaces(text: str) -> frozenset[str]:
    """Users and organizations of the Hub, in lower case as the Hub compares them, with commas or spaces
    between them; raises ValueError naming the one that is none.
    """
    names = text.replace(",", " ").split()
    for name in names:
        if not _NAMESPACE.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a user or organization of the Hub")
    return frozenset(name.lower() for name in names)


def check_push(push: PushRequest) -> None:
    """Raise BadInput if somebody put a token where its name belongs."""
    if push.token_name is not None and push.token_name.startswith(TOKEN_PREFIXES):
        raise BadInput(
            "token_name looks like a token, not a name; it was not stored",
            field="token_name",
            hint=(
                "put the token into a file in the worker's HUB_TOKENS folder, and give the name of that file"
            ),
        )
