"""Under which addresses the backend is reached."""

import socket


def addresses_for(host: str) -> tuple[str, str]:
    """What to connect to from this machine, and what robots connect to, if the backend listens on `host`."""
    if host in ("localhost", "127.0.0.1"):
        return host, "localhost"
    if host in ("0.0.0.0", "::", ""):  # noqa: S104
        return "localhost", _address_in_the_network()
    name = f"[{host}]" if ":" in host else host
    return name, name


def _address_in_the_network() -> str:
    """This machine's address where its packets go out; its name if it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: only the way there is looked up, to an address kept for documentation.
            probe.connect(("203.0.113.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
