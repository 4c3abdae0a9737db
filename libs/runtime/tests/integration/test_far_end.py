"""Whose a connection is, as the kernel of this machine says."""

import asyncio
import os
import socket
import struct
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager

import pytest
from teleop_runtime.access import far_end
from teleop_runtime.access.far_end import FarEnd, ask_kernel, find_in_table, read_tables, teller
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.operations import JsonResponse, Operation
from teleop_testing.backends.serving import serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")
NOBODY = 65_534
EPHEMERAL = ("127.0.0.1", 0)


@pytest.fixture(autouse=True)
def _all_accounts(monkeypatch):
    """The account of these tests may be `nobody`, which a user namespace could not tell from others."""
    monkeypatch.setattr(far_end, "_knows_all_accounts", lambda: True)


@contextmanager
def connected(listen="127.0.0.1", connect=None, families=(socket.AF_INET, socket.AF_INET)):
    """The client's socket, and the one that a server accepted."""
    with socket.socket(families[0]) as listening, socket.socket(families[1]) as client:
        if families[0] == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((listen, 0))
        listening.listen()
        client.connect((connect or listen, listening.getsockname()[1]))
        accepted, _ = listening.accept()
        with accepted:
            yield client, accepted


V4, V6 = socket.AF_INET, socket.AF_INET6
WAYS = {
    "IPv4": ("127.0.0.1", None, (V4, V4)),
    "IPv4 to all addresses": ("::", "127.0.0.1", (V6, V4)),
    "IPv6": ("::1", None, (V6, V6)),
    "IPv4 in IPv6": ("127.0.0.1", "::ffff:127.0.0.1", (V4, V6)),
    "another address of loopback": ("127.3.2.1", None, (V4, V4)),
}


@pytest.mark.parametrize("tell", [ask_kernel, read_tables])
@pytest.mark.parametrize("way", WAYS)
def test_the_account_at_the_other_end(monkeypatch, way, tell):
    """Both ways of asking say the same, whichever protocol the ends speak."""
    monkeypatch.setattr(far_end, "teller", lambda: tell)
    with connected(*WAYS[way]) as (_, accepted):
        assert FarEnd(accepted).uid == os.geteuid()


@pytest.mark.parametrize("tell", [ask_kernel, read_tables])
def test_a_closed_end_is_nobody_s(monkeypatch, tell):
    """The kernel says 0 of it, which is root's number: whoever sends and closes at once would be let in."""
    monkeypatch.setattr(far_end, "teller", lambda: tell)
    with connected() as (client, accepted):
        client.sendall(b"DELETE / HTTP/1.1\r\n\r\n")
        client.close()
        assert FarEnd(accepted).uid is None
    with connected() as (client, accepted):
        client.shutdown(socket.SHUT_WR)
        assert FarEnd(accepted).uid == os.geteuid()
    with connected() as (client, accepted):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert FarEnd(accepted).uid is None


@pytest.mark.parametrize("tell", [ask_kernel, read_tables])
def test_who_listens_on_the_port_is_not_the_other_end(tell):
    """A connection that is not there is not found, whoever has its port."""
    with socket.create_server(EPHEMERAL) as listening, connected() as (client, _):
        for own in (listening.getsockname(), client.getsockname()):
            assert tell(own, ("127.0.0.1", 1)) is None


def test_root_is_believed_only_if_its_socket_is_still_there(monkeypatch):
    """Between the account and the inode of one answer, the socket may have been closed."""
    answers = [far_end.Found(0, 99), far_end.Found(0, 0)]
    monkeypatch.setattr(far_end, "teller", lambda: lambda *_: answers.pop(0))
    with connected() as (_, accepted):
        assert FarEnd(accepted).uid is None
        assert answers == []


def test_a_unix_socket_says_it_itself():
    """Without any question."""
    here, there = socket.socketpair()
    with here, there:
        assert FarEnd(here).uid == os.geteuid()


def test_the_answer_is_asked_for_once(monkeypatch):
    """For each connection, however many requests come over it."""
    asked = []
    monkeypatch.setattr(far_end, "teller", lambda: lambda *ends: asked.append(ends))
    with connected() as (_, accepted):
        end = FarEnd(accepted)
        assert (end.uid, end.uid) == (None, None)
    assert len(asked) == 1


def test_an_account_without_a_number_here_is_not_believed(monkeypatch):
    """In a user namespace, all accounts that it does not have are one number."""
    monkeypatch.setattr(far_end, "teller", lambda: lambda *_: far_end.Found(NOBODY, 99))
    with connected() as (_, accepted):
        assert FarEnd(accepted).uid == NOBODY
        monkeypatch.setattr(far_end, "_knows_all_accounts", lambda: False)
        assert FarEnd(accepted).uid is None


def test_where_the_kernel_takes_no_questions_its_table_is_read(monkeypatch):
    """And where that can't be read either, nothing is known."""
    teller.cache_clear()
    assert teller() is ask_kernel

    def refuse(*_):
        raise PermissionError

    try:
        monkeypatch.setattr(far_end, "ask_kernel", refuse)
        teller.cache_clear()
        assert teller() is read_tables
        monkeypatch.setattr(far_end, "read_tables", refuse)
        teller.cache_clear()
        assert teller() is None
    finally:
        teller.cache_clear()


async def say_yes(_request):
    """Whoever may ask."""
    return JsonResponse("yes")


@asynccontextmanager
async def nothing():
    """A part that needs nothing."""
    yield Running(state={})


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: {own}:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
   1: {own}:1F40 {other}:0016 01 00000000:00000000 00:00000000 00000000  1001        0 77 1 0 20 4 30 10 -1
"""


@pytest.mark.parametrize(("own", "other"), [("127.0.0.1", "127.0.0.2"), ("::1", "fe80::1:2")])
def test_the_table_has_the_machine_s_order_of_bytes(own, other):
    """In words of 32 bits; the port is a number."""

    def word(address):
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        order = reversed if sys.byteorder == "little" else iter
        return "".join(bytes(order(packed[at : at + 4])).hex().upper() for at in range(0, len(packed), 4))

    table = TABLE.format(own=word(own), other=word(other))
    assert find_in_table(table, (own, 8000), (other, 22)) == (1001, 77)
    assert find_in_table(table, (own, 8000), (other, 23)) is None


# As any account can run it, wherever the Python of these tests is.
ASK = """
exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET /sessions HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3
cat <&3
"""
STRANGER = 12_345


@pytest.mark.root("other accounts send requests")
@pytest.mark.parametrize("own", [0, NOBODY], ids=["root", "ordinary"])
async def test_other_accounts_of_this_machine_need_a_token(monkeypatch, own):
    """The account that runs the backend does not, and root does not."""
    assert teller() is not None
    monkeypatch.setattr(os, "geteuid", lambda: own)
    part = ServicePart("example", [Operation("GET", "/sessions", say_yes, "read")], nothing)
    async with serving(assemble("example", [part], exposure="local")) as address:

        async def ask(uid: int) -> str:
            command = ["bash", "-c", ASK, "ask", address.rpartition(":")[2]]
            asking = await asyncio.create_subprocess_exec(*command, user=uid, stdout=subprocess.PIPE)
            return (await asking.communicate())[0].decode()

        for uid in {0, own}:
            assert (await ask(uid)).startswith("HTTP/1.1 200")
        refused = await ask(STRANGER)
        assert refused.startswith("HTTP/1.1 401")
        assert f"does not serve account {STRANGER} of this machine without a token" in refused
        assert "lerobot-backend tokens add <name> --role operator" in refused
