"""What was measured of an episode. Pure."""

from msgspec import Struct

from teleop_telemetry.suspicion.catalogue import FlagName


class Measurement(Struct, frozen=True, omit_defaults=True):
    """One value, and where it was measured.

    value        in the unit of its flag
    first_frame  first frame of the moment
    end_frame    one past its last frame
    joint        `observation.<name>` or `action.<name>`; None: it is of the whole episode
    other        session and episode that it is compared with; None: it is of this episode alone
    """

    flag: FlagName
    value: float
    first_frame: int
    end_frame: int
    joint: str | None = None
    other: tuple[int, int] | None = None
