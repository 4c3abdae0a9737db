"""Configuration and its mistakes."""

import pytest
from pydantic import Field, model_validator
from teleop_runtime.settings import ServiceSettings, load_settings, read_command_line


class ExampleSettings(ServiceSettings):
    """Settings of a service."""

    port: int = Field(8001, alias="EXAMPLE_PORT", ge=0, le=65_535, description="address to listen on")


class StrictSettings(ServiceSettings):
    """Settings that must fit each other."""

    @model_validator(mode="after")
    def _refuse(self) -> "StrictSettings":
        raise ValueError("these do not fit")


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch, tmp_path):
    """Neither this machine's environment nor a `.env` file."""
    for name in ("DATABASE_URL", "EXAMPLE_PORT", "LEROBOT_BACKEND_EXPOSURE", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_environment_and_file_are_read(monkeypatch, tmp_path):
    """The environment wins over the `.env` file."""
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://file\nEXAMPLE_PORT=1\n")
    monkeypatch.setenv("EXAMPLE_PORT", "2")
    settings = load_settings(ExampleSettings)
    assert (settings.database_url, settings.port, settings.exposure) == ("postgresql://file", 2, "local")


def test_every_mistake_is_told_at_once(monkeypatch, capsys):
    """A wrong configuration stops the process with status 2 and a line for each mistake."""
    monkeypatch.setenv("EXAMPLE_PORT", "70000")
    monkeypatch.setenv("LEROBOT_BACKEND_EXPOSURE", "internet!")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(SystemExit) as stopped:
        load_settings(ExampleSettings)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    for name in ("DATABASE_URL", "EXAMPLE_PORT", "LEROBOT_BACKEND_EXPOSURE", "LOG_LEVEL"):
        assert f"  {name}: " in told


def test_password_is_not_told(monkeypatch, capsys):
    """What is printed about a wrong database address is not the address."""
    monkeypatch.setenv("DATABASE_URL", "mysql://user:hunter2@host/db")
    with pytest.raises(SystemExit):
        load_settings(ExampleSettings)
    told = capsys.readouterr().err
    assert "  DATABASE_URL: must begin with postgresql://\n" in told
    assert "hunter2" not in told


def test_mistake_of_no_single_setting_is_told(monkeypatch, capsys):
    """Settings that do not fit each other are a mistake with a sentence, too."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://host")
    with pytest.raises(SystemExit):
        load_settings(StrictSettings)
    assert "\n  these do not fit\n" in capsys.readouterr().err


def test_the_internet_is_no_network_to_trust(monkeypatch, capsys):
    """The error names both settings, and what to do."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://host")
    monkeypatch.setenv("LEROBOT_BACKEND_EXPOSURE", "internet")
    assert load_settings(ExampleSettings).exposure == "internet"
    monkeypatch.setenv("LEROBOT_BACKEND_TRUST_NETWORK", "yes")
    with pytest.raises(SystemExit) as stopped:
        load_settings(ExampleSettings)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "LEROBOT_BACKEND_TRUST_NETWORK=yes" in told
    assert "LEROBOT_BACKEND_EXPOSURE=internet" in told
    assert "remove one of the two settings" in told


def test_help_tells_every_setting(monkeypatch, capsys):
    """By its name in the environment, with its meaning, and what it is if it is not set."""
    monkeypatch.setattr("sys.argv", ["example", "--help"])
    with pytest.raises(SystemExit) as stopped:
        read_command_line("`python -m example`: shows.", ExampleSettings)
    assert stopped.value.code == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["usage:", "[VARIABLE=…]", "python", "-m", "example", "[--help]"] in told
    assert ["EXAMPLE_PORT", "address", "to", "listen", "on", "(8001)"] in told
    assert ["DATABASE_URL", "postgresql://user:password@host:port/database", "(needed)"] in told


def test_an_argument_is_no_setting(monkeypatch, capsys):
    """It would be ignored: the process ends with status 2 instead, and says what tells of settings."""
    monkeypatch.setattr("sys.argv", ["example", "--port", "9000"])
    with pytest.raises(SystemExit) as stopped:
        read_command_line("`python -m example`: shows.", ExampleSettings)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "python -m example --help tells what it takes" in told
    assert "unrecognized arguments: --port 9000" in told
