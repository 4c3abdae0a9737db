"""Where webhooks may go: configuration of whatever sends them, and of who asks for them."""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from teleop_runtime.settings import SECRETS

from teleop_export.webhooks.rules import Allowed


class WebhookSettings(BaseSettings):
    """Environment of webhooks."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
        populate_by_name=True,
    )

    webhooks: str = Field(
        "",
        alias="LEROBOT_BACKEND_WEBHOOKS",
        description="hosts that webhooks may be sent to, and your own networks (192.168.1.0/24), with "
        "commas or spaces between them; a host that has a private address needs its network, too. "
        "Unset: there are no webhooks",
    )

    @field_validator("webhooks")
    @classmethod
    def _are_hosts(cls, webhooks: str) -> str:
        Allowed.of(webhooks)
        return webhooks

    @property
    def allowed(self) -> Allowed:
        """Where they may go."""
        return Allowed.of(self.webhooks)
