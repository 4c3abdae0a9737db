"""The pin of a certificate authority: by it a robot knows the authority of its backend. Pure."""

import hashlib
import re
import ssl
from base64 import urlsafe_b64encode

# SHA-256 in base64 without its padding.
_PIN = re.compile(r"[A-Za-z0-9_-]{43}")


def pin_of(certificate: str) -> str:
    """SHA-256 of one PEM certificate, as 43 characters; raises ValueError."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")


def is_pin(text: str) -> bool:
    """Whether a text can be a pin."""
    return _PIN.fullmatch(text) is not None
