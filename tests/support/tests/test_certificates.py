"""What costs a little each time is not done thousands of times."""

import ssl

import httpx


def test_clients_share_the_certificates_that_they_trust(monkeypatch):
    httpx.Client(timeout=None).close()
    monkeypatch.delattr(ssl, "create_default_context")
    httpx.Client(timeout=None).close()
