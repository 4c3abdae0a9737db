"""What the scripts behind `make up` and `make restore` tell, on an imitation of docker compose."""

import os
import subprocess
from pathlib import Path

import pytest
from teleop_testing.waiting import PATIENCE_S

SCRIPTS = Path(__file__).parents[2] / "deploy/stack"
# Notes what it is called with; answers where the proxy is, and that the database holds a robot.
COMPOSE = """\
#!/usr/bin/env bash
echo "$*" >>{calls}
case $* in
    "port proxy 8000") echo "${{LEROBOT_BACKEND_HOST:-127.0.0.1}}:${{LEROBOT_BACKEND_PORT:-8000}}" ;;
    *"printenv LEROBOT_BACKEND_TRUST_NETWORK") echo "${{LEROBOT_BACKEND_TRUST_NETWORK-}}" ;;
    *admin-link*) echo "${{@: -1}}/sign-in#code"; echo "Good once" ;;
    *"to_regclass('robot') IS NOT NULL"*) echo t ;;
    *psql*) echo f ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Runs a script of deploy/stack with settings; the file `calls` has what it asked of compose."""
    compose = tmp_path / "compose"
    compose.write_text(COMPOSE.format(calls=tmp_path / "calls"))
    compose.chmod(0o755)

    def run(script: str, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {**kept, "COMPOSE": str(compose), **settings}
        return subprocess.run(
            [SCRIPTS / script, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    return run


def line_of(told: str, name: str) -> str:
    [line] = [line for line in told.splitlines() if line.startswith(f"  {name} ")]
    return line.removeprefix(f"  {name} ").strip()


def test_the_commands_that_are_told_keep_what_was_given(run, tmp_path):
    """Copied, the line to scale with opens the same port to the same machines; secrets are not shown."""
    settings = {"LEROBOT_BACKEND_HOST": "0.0.0.0", "LEROBOT_BACKEND_PORT": "8441", "HF_TOKEN": "hf_secret"}
    done = run("up.sh", **settings, TELEMETRY_RETENTION_DAYS="90")
    assert done.returncode == 0, done.stderr
    given = "LEROBOT_BACKEND_HOST=0.0.0.0 LEROBOT_BACKEND_PORT=8441 TELEMETRY_RETENTION_DAYS=90"
    given += ' HF_TOKEN="$HF_TOKEN"'
    assert line_of(done.stdout, "scale").startswith(f"{given} {tmp_path}/compose up --detach --scale")
    assert f"unless it is in the file .env: {given}\n" in done.stdout
    assert "hf_secret" not in done.stdout


def test_robots_are_told_an_address_that_they_can_reach(run):
    """Open to all machines: not localhost, and not 0.0.0.0."""
    told = run("up.sh", LEROBOT_BACKEND_HOST="0.0.0.0", LEROBOT_BACKEND_PORT="8441").stdout
    assert "LeRobot backend on http://localhost:8441\n" in told
    robots = line_of(told, "robots")
    assert "localhost" not in robots
    assert "0.0.0.0" not in robots
    assert ":8441 " in robots


def test_on_this_machine_alone_nothing_more_is_told(run):
    """As it was given nothing, there is nothing to keep."""
    told = run("up.sh").stdout
    assert "LeRobot backend on http://127.0.0.1:8000\n" in told
    assert "ws://localhost:8000 " in line_of(told, "robots")
    assert "given the same" not in told


def test_whoever_has_to_sign_in_gets_a_link(run):
    """To an address that others reach; where the network is trusted, nobody needs one."""
    for trusted in ("yes", "true", "On", "1"):
        assert "sign in" not in run("up.sh", LEROBOT_BACKEND_TRUST_NETWORK=trusted).stdout
    told = run("up.sh", LEROBOT_BACKEND_TRUST_NETWORK="no").stdout
    assert line_of(told, "sign in") == "http://localhost:8000/sign-in#code"
    assert "LEROBOT_BACKEND_TRUST_NETWORK=no" in line_of(told, "scale")
    told = run("up.sh", LEROBOT_BACKEND_TRUST_NETWORK="no", LEROBOT_BACKEND_HOST="192.168.1.5").stdout
    assert line_of(told, "sign in") == "http://192.168.1.5:8000/sign-in#code"


def test_how_to_get_in_is_told(run):
    """Everybody needs a token, unless the stack's own services say otherwise."""
    told = run("up.sh", LEROBOT_BACKEND_HOST="0.0.0.0", LEROBOT_BACKEND_PORT="8441").stdout
    assert line_of(told, "access") == "whoever has a token, or has signed in"
    first, second = told[told.index("  let in ") :].splitlines()[:2]
    begins = "exec telemetry-service python -m teleop_telemetry.access"
    assert f"{begins} robots add robot_A --server http://" in first
    assert first.endswith(":8441")
    assert f"{begins} people add anna --role operator --server http://" in second
    told = run("up.sh", LEROBOT_BACKEND_TRUST_NETWORK="yes").stdout
    assert "WITHOUT a token" in line_of(told, "access")


def test_a_backup_that_does_not_exist_is_named(run, tmp_path):
    """So are one that is not whole, and one that was not named."""
    done = run("restore.sh", "backups/nope")
    assert (done.returncode, done.stderr.split(";")[0]) == (2, "backups/nope does not exist")
    done = run("restore.sh", str(tmp_path))
    assert (done.returncode, done.stderr.split(":")[0]) == (2, f"{tmp_path} is not a whole backup")
    assert "say which backup to restore" in run("restore.sh", "").stderr


def test_a_full_stack_is_refused_before_anything_is_built(run, tmp_path):
    """What takes half a minute comes after what may be refused."""
    (tmp_path / "SHA256SUMS").touch()
    done = run("restore.sh", str(tmp_path))
    assert done.returncode == 1
    assert "holds data already" in done.stderr
    assert "build" not in (tmp_path / "calls").read_text()
