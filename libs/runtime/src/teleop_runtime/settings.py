"""Configuration from the environment, a `.env` file and a secrets folder; every mistake told at once."""

import argparse
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from teleop_schema.commands.command_line import Parser
from teleop_schema.commands.variables import mistyped

SECRETS = Path("/run/secrets")
ENV_FILE = ".env"

Exposure = Literal["local", "lab"]


class ProcessSettings(BaseSettings):
    """What every server may be told."""

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
            "local: only this machine may connect; lab: other machines may connect too (for "
            "a network you trust)"
        ),
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="LOG_LEVEL", description="DEBUG, INFO, WARNING or ERROR"
    )


class ServiceSettings(ProcessSettings):
    """What every service needs to know; a service adds its own fields with its own prefix."""

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
    """Settings of this process; exits with status 2 and a line per mistake when they can't be read.

    A variable that is probably mistyped is told, once.
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
    """A line on one mistake: the variable, unless several don't fit each other, and the reason."""
    variable = ".".join(map(str, mistake["loc"]))
    reason = mistake["msg"].removeprefix("Value error, ")
    return f"  {variable}: {reason}" if variable else f"  {reason}"


def read_command_line(about: str, *kinds: type[BaseSettings]) -> None:
    """Tell `--help` what a server is and reads, and refuse every other argument; both end the process.

    about  one sentence, first of all how it is called: "`python -m teleop_telemetry`: …"
    kinds  whose settings it loads
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
    """A line for each setting: its name, what it means, what it is if it is not set."""
    for kind in kinds:
        for field in kind.model_fields.values():
            default = "needed" if field.is_required() else field.default
            told = "" if default is None else f" ({default})"
            yield f"{field.alias:<26} {field.description}{told}"
