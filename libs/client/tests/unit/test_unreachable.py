"""Errors of connections as people read them."""

import errno
import socket
import ssl

import pytest
from teleop_client.unreachable import untrusted, why_unreachable

UNTRUSTED = ssl.SSLCertVerificationError(1, "self-signed certificate")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('::1', 9, 0, 0)"),
            "Connection refused",
        ),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError("Multiple exceptions: one, another"), "Multiple exceptions: one, another"),
        (ConnectionResetError(), "ConnectionResetError"),
        (UNTRUSTED, untrusted(UNTRUSTED)),
    ],
)
def test_words_of_the_system(error, said):
    """Without Python's call and socket addresses, as far as the error has a number."""
    assert why_unreachable(error) == said


def test_a_server_without_tls():
    """What to write instead is said."""
    answers, asks = ssl.MemoryBIO(), ssl.MemoryBIO()
    answers.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection = ssl.create_default_context().wrap_bio(answers, asks, server_hostname="backend")
    with pytest.raises(ssl.SSLError) as caught:
        connection.do_handshake()
    assert "use http:// instead of https://" in why_unreachable(caught.value)


def test_an_unknown_certificate():
    """What is wrong with it, and both ways out."""
    told = untrusted(UNTRUSTED)
    assert told.startswith(f"its certificate is not trusted ({UNTRUSTED}): ")
    assert "robots add" in told
    assert "SSL_CERT_FILE" in told
