"""Why a backend can't be reached, for people. Pure."""

import os
import ssl


def untrusted(error: ssl.SSLCertVerificationError) -> str:
    """What to do about a certificate of an unknown authority, or of another name."""
    why = getattr(error, "verify_message", error)
    return (
        f"its certificate is not trusted ({why}): let this robot join (on the server: "
        "lerobot-backend robots add), or name its authority's certificate in SSL_CERT_FILE"
    )


def why_unreachable(error: OSError) -> str:
    """Why a connection failed, in plainer words than the error's where possible."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return untrusted(error)
    if isinstance(error, ssl.SSLError):
        return f"it does not support TLS ({error.reason}): use http:// instead of https://?"
    if error.errno:
        # Errors of name resolution are negative, and have a text of their own.
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error) or type(error).__name__
