"""What the end of a process says about the file that it worked on."""

import signal

# With these a decoder ends that a file has led astray, or that it has kept for longer than it may.
# Nothing else says anything about the file: neither a signal from outside (a machine that runs out of memory,
# somebody who stops the process), nor a lack of time, nor a worker that ends by itself: a mistake of ours.
OF_THE_DECODER = frozenset(
    (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGXCPU)
)


def cause_of(returncode: int) -> str:
    """The signal that ended a process, or its exit code."""
    return signal.Signals(-returncode).name if returncode < 0 else f"exit code {returncode}"
