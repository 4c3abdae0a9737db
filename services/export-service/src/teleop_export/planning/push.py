"""What can be said about a push to the Hugging Face Hub. Pure."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct
from teleop_runtime.serving.problems import Problem
from teleop_schema.errors import BadInput

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
