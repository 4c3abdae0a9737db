"""The document of all addresses."""

from pathlib import Path

from teleop_backend.openapi import openapi

SERVED = Path(__file__).parents[3] / "proxy/openapi.json"


def test_the_stacks_proxy_serves_the_document_of_the_one_process_default():
    """An address that is new, or answers otherwise, is in the file after `make openapi`."""
    assert SERVED.read_bytes() == openapi(), "run make openapi"
