"""What a proxy's headers say of a person whom it has signed in."""

import re

import pytest
from teleop_runtime.access.forward_auth import ForwardAuth, Grant, Vouched, check_header, read_grants
from teleop_runtime.serving.identity import principal_of
from teleop_runtime.settings import ProcessSettings
from teleop_schema.errors import NotAllowed, Unauthorized

GRANTS = "admins=admin, lab members = operator, students=viewer:robot_A robot_B, guests=viewer:robot_C"


def headers(user="anna", groups=""):
    return [(b"remote-user", user.encode()), (b"Remote-Groups", groups.encode())]


def granted(groups, grants=GRANTS):
    vouched = ForwardAuth(read_grants(grants)).read(headers(groups=groups))
    assert vouched
    return vouched.grant


def test_a_group_gives_a_role():
    """The highest counts, for the robots of all groups that give it."""
    assert granted("admins") == Grant("admin")
    assert granted("lab members,students") == Grant("operator")
    assert granted("students, guests") == Grant("viewer", frozenset({"robot_A", "robot_B", "robot_C"}))
    assert granted("students", f"{GRANTS}, *=viewer") == Grant("viewer")
    assert granted("", f"{GRANTS}, *=viewer:robot_Z") == Grant("viewer", frozenset({"robot_Z"}))
    assert granted("") is None
    assert granted("Admins") is None
    assert granted("cn=admins", "cn=admins=admin") == Grant("admin")


def test_groups_may_come_in_several_headers():
    """As some proxies send them."""
    auth = ForwardAuth(read_grants(GRANTS))
    found = auth.read([*headers(groups="x"), (b"remote-groups", b"admins")])
    assert found
    assert found.grant == Grant("admin")


def test_a_person_keeps_the_robots_that_they_were_given_here():
    """Whatever their groups say; their role here is for those whose groups give none."""
    auth = ForwardAuth(read_grants(GRANTS))
    narrowed = Grant("viewer", frozenset({"robot_A"}))
    vouched = auth.read(headers(groups="admins"))
    assert vouched
    assert principal_of(vouched, None).robot_ids is None
    principal = principal_of(vouched, narrowed)
    assert (principal.name, principal.role, principal.robot_ids) == ("anna", "admin", narrowed.robot_ids)
    assert principal.how == "proxy"
    without = auth.read(headers())
    assert without
    assert principal_of(without, narrowed).role == "viewer"
    with pytest.raises(NotAllowed, match="anna, who has no role here"):
        principal_of(without, None)


def test_whoever_is_called_admin_at_the_proxy_is_not_the_one_who_runs_the_backend():
    """They may have chosen the name themselves."""
    auth = ForwardAuth(read_grants("*=viewer"))
    for name in ("admin", "Admin"):
        vouched = auth.read(headers(user=name))
        assert vouched
        assert principal_of(vouched, Grant("admin")).role == "viewer"
        with pytest.raises(NotAllowed, match="who has no role here"):
            principal_of(Vouched(name, None), Grant("admin"))


def test_the_proxy_says_nothing():
    """No header, an empty one, or one into which Caddy had nothing to put."""
    auth = ForwardAuth(read_grants("*=viewer"))
    assert auth.read([]) is None
    assert auth.read(headers(user=" ")) is None
    assert auth.read(headers(user="{http.reverse_proxy.header.Remote-User}")) is None
    assert auth.read([(b"remote-groups", b"admins")]) is None


def test_names_are_text():
    """In UTF-8, or as HTTP/1.1 once had it; a second name, or one that nobody can have, is refused."""
    auth = ForwardAuth(read_grants(GRANTS))
    names = (b"\xea\xb9\x80", "김"), (b"J\xf6rg", "Jörg")
    for sent, meant in names:
        vouched = auth.read([(b"remote-user", sent)])
        assert vouched
        assert vouched.name == meant
    for wrong in ([*headers(), *headers("boss")], headers("a\tb"), headers("a" * 256)):
        with pytest.raises(Unauthorized):
            auth.read(wrong)


def test_the_headers_are_taken_away():
    """Whatever they are called, and however they are written."""
    auth = ForwardAuth({}, "X-Forwarded-User", "X-Forwarded-Groups")
    sent = [(b"x-forwarded-USER", b"a"), (b"x-forwarded-groups", b"b"), (b"remote-user", b"c")]
    assert auth.without(sent) == [(b"remote-user", b"c")]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("admins", "'admins' is not a group and a role"),
        ("admins=", "'admins=' is not"),
        ("=admin", "'=admin' is not"),
        ("a=root", "'a=root' is not"),
        ("a=robot", "'a=robot' is not"),
        ("x=admin, a=viewer:", "'a=viewer:' names no robots"),
        ("a=viewer:../x", "robot_id '../x'"),
        ("a=viewer,a=admin", "'a' is named twice"),
    ],
)
def test_a_map_that_nobody_can_mean(wrong, named):
    """The error shows the part that is wrong."""
    with pytest.raises(ValueError, match=re.escape(named)):
        read_grants(wrong)


def test_the_settings():
    """Without the proxy's address, nobody could be believed."""

    def settings(**chosen):
        return ProcessSettings(_env_file=None, **chosen)

    assert settings().vouching is None
    found = settings(forward_auth="a=viewer", proxies="127.0.0.1", forward_auth_user="X-Forwarded-User")
    assert found.vouching == ForwardAuth({"a": Grant("viewer")}, "X-Forwarded-User", "Remote-Groups")
    with pytest.raises(ValueError, match="needs the addresses of the proxy in LEROBOT_BACKEND_PROXIES"):
        settings(forward_auth="a=viewer")
    with pytest.raises(ValueError, match="not a group and a role"):
        settings(forward_auth="viewer", proxies="127.0.0.1")
    with pytest.raises(ValueError, match="not the name of a header"):
        settings(forward_auth_user="X Y")
    assert check_header("Remote-User") == "Remote-User"
