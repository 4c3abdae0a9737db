"""Where the Hub is and what opens it: configuration of whatever pushes."""

import asyncio
from pathlib import Path

from huggingface_hub import get_token
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from teleop_runtime.settings import SECRETS

from teleop_export.errors import HubTokenMissing
from teleop_export.hub.upload import Access
from teleop_export.planning.push import read_namespaces

# Somebody may have named the wrong file.
MAX_TOKEN_BYTES = 4096


class HubSettings(BaseSettings):
    """Environment of pushing. Tokens stay in the worker's process: no request and no row holds one."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
        populate_by_name=True,
    )

    hub_endpoint: str = Field("https://huggingface.co", alias="HF_ENDPOINT", description="the Hub's address")
    hub_token: SecretStr | None = Field(
        None, alias="HF_TOKEN", description="the token to push with; default: that of `hf auth login`, if any"
    )
    hub_tokens: Path | None = Field(
        None, alias="HUB_TOKENS", description="folder with more tokens, one file each; requests name the file"
    )

    hub_namespaces: str | None = Field(
        None,
        alias="LEROBOT_BACKEND_HUB_NAMESPACES",
        description="users and organizations of the Hub that datasets may be pushed to, with commas or "
        "spaces between them; operators may push there, privately. Unset: all that the token may write to, "
        "for admins only",
    )

    @field_validator("hub_namespaces")
    @classmethod
    def _are_names(cls, namespaces: str | None) -> str | None:
        read_namespaces(namespaces or "")
        return namespaces

    @property
    def namespaces(self) -> frozenset[str]:
        """Those that datasets may be pushed to; none: any."""
        return read_namespaces(self.hub_namespaces or "")

    @field_validator("hub_endpoint")
    @classmethod
    def _is_address(cls, endpoint: str) -> str:
        if not endpoint.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return endpoint.rstrip("/")

    async def access(self, token_name: str | None) -> Access:
        """What opens the Hub; raises HubTokenMissing."""
        token = await asyncio.to_thread(self._token, token_name)
        if not token:
            told = "no token for the Hub" if token_name is None else f"no Hub token named {token_name}"
            raise HubTokenMissing(
                f"the worker has {told}",
                field=None if token_name is None else "token_name",
                hint="set HF_TOKEN for the worker, or put a file with the token into its HUB_TOKENS folder",
            )
        return Access(self.hub_endpoint, token)

    def _token(self, name: str | None) -> str | None:
        if name is None:
            # Set to nothing is not set: compose has no other way to hand on what the user may have.
            return (self.hub_token and self.hub_token.get_secret_value()) or get_token()
        if self.hub_tokens is None:
            return None
        try:
            with (self.hub_tokens / name).open("rb") as file:
                return file.read(MAX_TOKEN_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
