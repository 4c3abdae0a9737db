"""How many files and connections this process may have open."""

import resource

# More than a server here ever needs. A hard limit may be a billion, and code that counts up to it is slow.
ENOUGH = 65_536


def raise_limit() -> None:
    """Allow as many descriptors as the system lets this user have, up to ENOUGH; fewer are never allowed.

    The usual 1024 is meant for programs that use select(); a thousand robots are more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
