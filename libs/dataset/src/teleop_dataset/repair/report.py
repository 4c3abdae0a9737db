"""The report of a repair, for programs and for people."""

import msgspec
from teleop_schema.words import counted


class Lost(msgspec.Struct, frozen=True):
    """Something of the source that is not in the repaired dataset, and why."""

    what: str
    why: str


class RepairReport(msgspec.Struct, kw_only=True):
    """Outcome of a repair.

    episodes, frames  of the repaired dataset; 0 if nothing could be recovered: then nothing was written
    beyond_info       how many of the episodes meta/info.json did not count yet
    rebuilt           files of the repaired dataset that have changed, and what was done to each
    renumbered        old number -> new number of episodes after a lost one
    kept              files that are unchanged, byte for byte
    lost              what is missing
    flags             faults of the recovered episodes themselves
    """

    episodes: int = 0
    frames: int = 0
    beyond_info: int = 0
    rebuilt: dict[str, str] = {}
    renumbered: dict[int, int] = {}
    kept: list[str] = []
    lost: list[Lost] = []
    flags: list[str] = []

    @property
    def whole(self) -> bool:
        """Whether there is a repaired dataset."""
        return self.episodes > 0

    def lose(self, what: str, why: str) -> None:
        """Record that `what` is not in the repaired dataset."""
        self.lost.append(Lost(what, why))

    def as_text(self) -> str:
        """The report as lines for people."""
        if self.whole:
            lines = [f"recovered {counted(self.episodes, 'episode')}, {counted(self.frames, 'frame')}"]
        else:
            lines = ["nothing could be recovered"]
        if self.beyond_info:
            lines.append(f"info.json did not count {self.beyond_info} of them yet")
        if self.renumbered:
            lines.append(
                "episodes were renumbered: "
                + ", ".join(f"{old} is {new}" for old, new in self.renumbered.items())
            )
        lines += [f"lost: {loss.what}: {loss.why}" for loss in self.lost]
        lines += [f"note: {flag}" for flag in self.flags]
        lines += [f"rebuilt {path}: {how}" for path, how in self.rebuilt.items()]
        lines.append(f"unchanged: {counted(len(self.kept), 'file')}")
        return "\n".join(lines)
