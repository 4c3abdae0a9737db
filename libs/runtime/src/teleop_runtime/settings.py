"""Configuration from the environment, a `.env` file and a secrets folder; reports all mistakes at once."""

import argparse
import functools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from teleop_schema.commands.command_line import Parser
from teleop_schema.commands.variables import mistyped

from teleop_runtime.access.forward_auth import ForwardAuth, check_header, read_grants
from teleop_runtime.access.roles import Exposure
from teleop_runtime.proxies import Network, read_proxies

SECRETS = Path("/run/secrets")
ENV_FILE = ".env"
GB = 10**9

# As browsers send it: in lower case, without a slash at its end.
_ORIGIN = re.compile(r"https?://[a-z0-9.\-\[\]:]+", re.ASCII)
# Without a port: whoever reaches it by a name does so by any of its ports. An address does no harm.
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]", re.ASCII)


class ProcessSettings(BaseSettings):
    """Settings of every server."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        extra="ignore",
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
        populate_by_name=True,
    )

    exposure: Exposure = Field(
        "local",
        alias="LEROBOT_BACKEND_EXPOSURE",
        description=(
            "local: on this machine, the account that runs the backend needs no token, nor does root; lab: "
            "everybody needs one; internet: also, nobody is answered who comes from elsewhere without HTTPS"
        ),
    )
    trust_network: bool = Field(
        False,
        alias="LEROBOT_BACKEND_TRUST_NETWORK",
        description=(
            "yes: whoever can connect needs no token; no: they do. A token that is shown is always checked"
        ),
    )
    proxies: str | None = Field(
        None,
        alias="LEROBOT_BACKEND_PROXIES",
        description="addresses or networks of reverse proxies, with commas or spaces between them: what "
        "their `X-Forwarded-…` headers say counts; unset: nobody's",
    )
    open_metrics: bool = Field(
        False,
        alias="LEROBOT_BACKEND_OPEN_METRICS",
        description="yes: /metrics needs no token, unless a proxy passes the request on; for a network that "
        "only proxy and monitoring reach",
    )
    names: str | None = Field(
        None,
        alias="LEROBOT_BACKEND_NAMES",
        description="names by which callers without a token reach this backend, like robots.example.com, "
        "with commas or spaces between them; addresses, and the names of this machine, are known",
    )
    pages: str | None = Field(
        None,
        alias="LEROBOT_BACKEND_PAGES",
        description="origins of web pages that may read datasets below /hub/, with commas or spaces between "
        "them, like http://localhost:3000; unset: none may",
    )
    forward_auth: str | None = Field(
        None,
        alias="LEROBOT_BACKEND_FORWARD_AUTH",
        description="what people may do whom a reverse proxy has signed in, by their groups: "
        "`admins=admin, students=viewer:robot_A robot_B, *=viewer`; unset: no proxy signs people in",
    )
    forward_auth_user: str = Field(
        "Remote-User",
        alias="LEROBOT_BACKEND_FORWARD_AUTH_USER",
        description="header in which the proxy sends a person's name",
    )
    forward_auth_groups: str = Field(
        "Remote-Groups",
        alias="LEROBOT_BACKEND_FORWARD_AUTH_GROUPS",
        description="header in which the proxy sends a person's groups, with commas between them",
    )
    connections: int = Field(
        20_000,
        alias="LEROBOT_BACKEND_CONNECTIONS",
        ge=1,
        description="most connections that may be open at once; fewer where this process may not open so "
        "many files",
    )
    connections_per_address: int = Field(
        5_000,
        alias="LEROBOT_BACKEND_CONNECTIONS_PER_ADDRESS",
        ge=1,
        description="most of them from one address; those of LEROBOT_BACKEND_PROXIES may have all",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="LOG_LEVEL", description="DEBUG, INFO, WARNING or ERROR"
    )

    @field_validator("names")
    @classmethod
    def _are_names(cls, names: str | None) -> str | None:
        read_names(names or "")
        return names

    @field_validator("proxies")
    @classmethod
    def _are_networks(cls, proxies: str | None) -> str | None:
        read_proxies(proxies or "")
        return proxies

    @field_validator("pages")
    @classmethod
    def _are_origins(cls, pages: str | None) -> str | None:
        read_origins(pages or "")
        return pages

    @field_validator("forward_auth")
    @classmethod
    def _are_grants(cls, forward_auth: str | None) -> str | None:
        read_grants(forward_auth or "")
        return forward_auth

    @field_validator("forward_auth_user", "forward_auth_groups")
    @classmethod
    def _is_header(cls, name: str) -> str:
        return check_header(name)

    @model_validator(mode="after")
    def _knows_the_proxy(self) -> Self:
        if self.forward_auth and not self.trusted:
            raise ValueError(
                "LEROBOT_BACKEND_FORWARD_AUTH needs the addresses of the proxy in LEROBOT_BACKEND_PROXIES"
            )
        return self

    @model_validator(mode="after")
    def _trusts_no_internet(self) -> Self:
        if self.trust_network and self.exposure == "internet":
            raise ValueError(
                "LEROBOT_BACKEND_TRUST_NETWORK=yes lets everybody in who can connect, which on the internet "
                "(LEROBOT_BACKEND_EXPOSURE=internet) is everybody; remove one of the two settings"
            )
        return self

    @property
    def vouching(self) -> ForwardAuth | None:
        """What proxies say of people; None: nothing that counts."""
        if not self.forward_auth:
            return None
        grants = read_grants(self.forward_auth)
        return ForwardAuth(grants, self.forward_auth_user, self.forward_auth_groups)

    @property
    def readers(self) -> frozenset[str]:
        """Origins of the pages of other sites that may read something."""
        return read_origins(self.pages or "")

    @property
    def known_as(self) -> frozenset[str]:
        """Names of this backend that its admin has named."""
        return read_names(self.names or "")

    @property
    def trusted(self) -> tuple[Network, ...]:
        """Networks of the proxies."""
        return read_proxies(self.proxies or "")


def read_origins(text: str) -> frozenset[str]:
    """Origins with commas or spaces between them; raises ValueError naming the one that is none."""
    origins = text.replace(",", " ").split()
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is not an origin like http://localhost:3000")
    return frozenset(origins)


def read_names(text: str) -> frozenset[str]:
    """Names of hosts with commas or spaces between them, in lower case; raises ValueError naming the one that
    is none."""
    names = text.replace(",", " ").lower().split()
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a host like robots.example.com")
    return frozenset(names)


class QuotaSettings(ProcessSettings):
    """How much each robot may take, for the service that keeps to it, and for the one that says so."""

    robot_quota_gb: float | None = Field(
        None,
        alias="LEROBOT_BACKEND_ROBOT_QUOTA_GB",
        gt=0,
        le=1_000_000_000,
        description="how much the video and datasets of each robot may take, GB, unless it has a quota of "
        "its own (robots quota); then it keeps the rest until there is room. Unset: any amount",
    )

    @property
    def robot_quota_bytes(self) -> int | None:
        """The same in bytes; None: any number."""
        return None if self.robot_quota_gb is None else int(self.robot_quota_gb * GB)


class ServiceSettings(ProcessSettings):
    """Settings of every service; a service adds its own fields with its own prefix."""

    database_url: str = Field(
        alias="DATABASE_URL", description="postgresql://user:password@host:port/database"
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: str) -> str:
        if not url.startswith("postgresql://"):
            raise ValueError("must begin with postgresql://")
        return url


def load_settings[Settings: BaseSettings](kind: type[Settings]) -> Settings:
    """Settings of this process; exits with status 2 and a line per mistake if they can't be read.

    Reports, once, a variable that is probably mistyped.
    """
    _tell_mistyped()
    try:
        return kind()
    except ValidationError as error:
        print("the configuration is wrong:", *map(_told, error.errors()), sep="\n", file=sys.stderr)
        raise SystemExit(2) from None


@functools.cache
def _tell_mistyped() -> None:
    for line in mistyped({*os.environ, *dotenv_values(ENV_FILE)}):
        print(f"warning: {line}", file=sys.stderr)


def _told(mistake: ErrorDetails) -> str:
    """A line about one mistake: the reason and the variable, unless several variables contradict each
    other."""
    variable = ".".join(map(str, mistake["loc"]))
    reason = mistake["msg"].removeprefix("Value error, ")
    return f"  {variable}: {reason}" if variable else f"  {reason}"


def read_command_line(about: str, *kinds: type[BaseSettings]) -> None:
    """Answer `--help` with what a server does and its settings, and refuse other arguments;
    both end the process.

    about  one sentence that begins with its command: "`python -m teleop_telemetry`: …"
    kinds  classes of the settings that it loads
    """
    called, _, description = about.partition(": ")
    command = called.strip("`")
    told = "environment variables, also read from a .env file in the current folder:"
    Parser(
        prog=command,
        usage=f"[VARIABLE=…] {command} [--help]",
        description=description,
        epilog="\n  ".join([told, *_variables(kinds)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    ).parse_args()


def _variables(kinds: tuple[type[BaseSettings], ...]) -> Iterator[str]:
    """A line for each setting: its name, its meaning, its default."""
    for kind in kinds:
        for field in kind.model_fields.values():
            default = "needed" if field.is_required() else field.default
            told = "" if default is None else f" ({default})"
            yield f"{field.alias:<26} {field.description}{told}"
