"""Description of one teleoperation session, sent once in `hello` and kept in `teleop_session`."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from teleop_schema.limits import FIRST_US, LAST_US, MAX_NAME_LENGTH, MAX_TEXT_LENGTH, MAX_VECTOR_VALUES

# `$` alone would accept a newline at the end.
FeatureName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=r"^[^\x00-\x1f]+$(?!\n)")]
FeatureNames = Annotated[tuple[FeatureName, ...], Meta(max_length=MAX_VECTOR_VALUES)]
Fps = Annotated[float, Meta(gt=0, le=10_000)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH, pattern=r"^[^\x00]*$")]
# A person's name, which whoever wants that person's episodes types in an address.
Operator = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")]
TimestampUs = Annotated[int, Meta(ge=FIRST_US, le=LAST_US)]
PixelCount = Annotated[int, Meta(ge=1, le=65_535)]


class Camera(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One camera of the robot, as LeRobot configures it.

    channels  values per pixel: 3 is RGB, 1 is depth
    """

    height: PixelCount
    width: PixelCount
    fps: Fps | None = None
    channels: Annotated[int, Meta(ge=1, le=4)] = 3


class SessionDescription(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The constant data of a session.

    state_names, action_names  one name per value of a frame, in order, as LeRobot writes them
                               ("shoulder_pan.pos")
    fps                        declared rate of the loop in Hz
    started_at_us              capture clock at session start, us since the Unix epoch
    host                       where it was recorded (free: hostname, versions)
    operator                   who drives the robot; not told to servers that know no v1.4, which refuse it
    """

    robot_type: Text
    fps: Fps
    state_names: FeatureNames
    action_names: FeatureNames
    started_at_us: TimestampUs
    cameras: dict[str, Camera] = {}
    task: Text | None = None
    host: dict[str, Any] = {}
    operator: Operator | UnsetType = UNSET

    def __post_init__(self) -> None:
        for names in ("state_names", "action_names"):
            if len(set(getattr(self, names))) < len(getattr(self, names)):
                raise ValueError(f"a name appears twice in field `{names}`")
