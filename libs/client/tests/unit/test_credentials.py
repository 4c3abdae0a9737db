import msgspec
import pytest
from msgspec import structs
from teleop_client.credentials import (
    Credential,
    Tokens,
    UnusableCredentials,
    credentials_file,
    read_credentials,
    trusting,
)
from teleop_schema.certificates.authority import Authority

HERE = Credential(backend_url="ws://host:8000", robot_id="robot_A", token="lrb_robot_a")
THERE = Credential(backend_url="wss://far.example", robot_id="robot_A", token="lrb_robot_b")
PERSON = Credential(backend_url="ws://host:8000", token="lrb_viewer_c")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user's settings of their own, and nothing in the environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("LEROBOT_BACKEND_URL", raising=False)
    monkeypatch.delenv("LEROBOT_BACKEND_TOKEN", raising=False)


def write(*credentials, mode=0o600):
    path = credentials_file()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.encode(credentials))
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("backend_url", "robot_id", "token"),
    [
        ("ws://host:8000", "robot_A", HERE.token),
        ("http://HOST:8000/", "robot_A", HERE.token),
        ("https://far.example:443", "robot_A", THERE.token),
        ("http://host:8000", None, PERSON.token),
        ("ws://host:8000", "robot_B", None),
        ("wss://host:8000", "robot_A", None),
        ("ws://host:8001", "robot_A", None),
        ("ws://host:8000/other", "robot_A", None),
        ("wss://far.example.evil", "robot_A", None),
        ("wss://far.example", None, None),
        ("not an address", "robot_A", None),
    ],
)
def test_a_token_is_for_one_backend_and_one_robot(backend_url, robot_id, token):
    """However the address is written; any other gets none."""
    write(HERE, THERE, PERSON)
    assert Tokens().token_for(backend_url, robot_id) == token


def test_the_authority_of_a_backend():
    """Of this robot's line, else of another robot's, never of another backend's; a damaged one is named."""
    authority = Authority.make().signed.certificate
    known = structs.replace(THERE, authority=authority)
    write(HERE, known)
    tokens = Tokens()
    assert tokens.trust_for(THERE.backend_url, "robot_A") is trusting(authority)
    assert tokens.trust_for(THERE.backend_url, "robot_B") is trusting(authority)
    assert tokens.trust_for(HERE.backend_url, "robot_A") is None
    assert tokens.trust_for("wss://other.example", "robot_A") is None
    write(structs.replace(THERE, authority="damaged"))
    with pytest.raises(UnusableCredentials, match="join the backend again"):
        tokens.trust_for(THERE.backend_url, "robot_A")


@pytest.mark.parametrize(
    ("variable", "named", "asked", "shown"),
    [
        (None, "ws://host:8000", "ws://host:8000", True),
        ("http://host:8000", None, "ws://host:8000", True),
        ("http://host:8000", "ws://other:8000", "ws://host:8000", True),
        ("http://host:8000", "ws://other:8000", "ws://other:8000", False),
        (None, "ws://host:8000", "ws://other:8000", False),
        (None, None, "ws://host:8000", False),
    ],
)
def test_the_variable_is_for_one_backend(monkeypatch, variable, named, asked, shown):
    """That of LEROBOT_BACKEND_URL, or else the one that the command names."""
    monkeypatch.setenv("LEROBOT_BACKEND_TOKEN", " lrb_robot_x\n")
    if variable:
        monkeypatch.setenv("LEROBOT_BACKEND_URL", variable)
    tokens = Tokens.of_environment(named)
    assert tokens.token_for(asked, "robot_A") == ("lrb_robot_x" if shown else None)


def test_a_child_finds_the_same_token(monkeypatch):
    """Through its environment, whatever that held before."""
    monkeypatch.setenv("LEROBOT_BACKEND_URL", "ws://other:8000")
    monkeypatch.setenv("LEROBOT_BACKEND_TOKEN", "lrb_robot_other")
    for name, value in Tokens(("ws://host:8000", "lrb_robot_x")).for_child().items():
        monkeypatch.setenv(name, value)
    child = Tokens.of_environment("ws://third:8000")
    assert child.header_for("http://host:8000", "robot_A") == {"Authorization": "Bearer lrb_robot_x"}
    assert child.header_for("ws://other:8000", "robot_A") == child.header_for("ws://third:8000", None) == {}


def test_an_empty_token_is_none(monkeypatch):
    """A variable without a value hides no token of the file."""
    monkeypatch.setenv("LEROBOT_BACKEND_TOKEN", "")
    write(HERE)
    assert Tokens.of_environment("ws://host:8000").token_for("ws://host:8000", "robot_A") == HERE.token
    assert Tokens(("ws://host:8000", "")).token_for("ws://host:8000", "robot_A") == HERE.token


def test_a_robot_that_joins_again_goes_on_with_its_new_token():
    """The processes that run see it."""
    tokens = Tokens()
    assert tokens.token_for("ws://host:8000", "robot_A") is None
    write(HERE)
    assert tokens.token_for("ws://host:8000", "robot_A") == HERE.token
    path = write(msgspec.structs.replace(HERE, token="lrb_robot_new_one"))
    assert tokens.token_for("ws://host:8000", "robot_A") == "lrb_robot_new_one"
    path.unlink()
    assert tokens.token_for("ws://host:8000", "robot_A") is None


def test_a_file_that_others_read_is_not_used():
    """It is no secret any more; the error says what to do."""
    path = write(HERE, mode=0o640)
    with pytest.raises(UnusableCredentials, match=f"chmod 600 {path}"):
        Tokens().token_for("ws://host:8000", "robot_A")
    path.chmod(0o600)
    assert Tokens().token_for("ws://host:8000", "robot_A") == HERE.token


@pytest.mark.parametrize("content", [b"", b"[{", b'{"a": 1}', b'[{"token": "x"}]'])
def test_a_damaged_file_is_named(content):
    """With what to do."""
    path = write()
    path.write_bytes(content)
    with pytest.raises(UnusableCredentials, match=r"is damaged .*join the backend again"):
        read_credentials(path)


def test_a_folder_in_its_place_is_named():
    """Not taken for no file at all."""
    credentials_file().mkdir(parents=True, mode=0o700)
    with pytest.raises(UnusableCredentials, match="can't be read: Is a directory"):
        Tokens().token_for("ws://host:8000", "robot_A")


def test_a_user_without_a_home_has_no_credentials(monkeypatch):
    """A container with nothing but a spool still sends."""
    monkeypatch.delenv("XDG_CONFIG_HOME")

    def no_home(_path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(type(credentials_file()), "expanduser", no_home)
    assert Tokens().token_for("ws://host:8000", "robot_A") is None
