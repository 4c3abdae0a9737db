"""How much memory a process took."""

from pathlib import Path


def peak_bytes(pid: int | str = "self") -> int:
    """The most memory that a process has ever held; Linux alone tells.

    Not ru_maxrss, which counts what the process held that started this one.
    """
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
