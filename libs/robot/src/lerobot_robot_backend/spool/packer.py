"""Packs the frames of a session as its spool keeps them: the values of both vectors, and what is beyond."""

from collections.abc import Iterable, Mapping
from typing import Any

from teleop_schema.session import SessionDescription

from lerobot_robot_backend.spool.extra import encode_all_extra
from lerobot_robot_backend.spool.record import encode_beyond
from lerobot_robot_backend.spool.values import differ, number, picker


class FramePacker:
    """Knows the names of a session, in the order of its vectors.

    pictures  names in an observation that are pictures, which are recorded as video
    """

    def __init__(self, session: SessionDescription, pictures: Iterable[str]) -> None:
        self._session = session
        self._pick_state = picker(session.state_names)
        self._pick_action = picker(session.action_names)
        self._known_state = frozenset((*session.state_names, *pictures))
        self._known_action = frozenset(session.action_names)
        self._state_count = len(session.state_names)
        self._action_count = len(session.action_names)
        self._all_floats = [float] * (self._state_count + self._action_count)

    def values(
        self, observation: Mapping[str, Any], action: Mapping[str, Any]
    ) -> tuple[tuple[float, ...], bool]:
        """The state's values and then the action's; and whether both have all their names.

        A missing value is NaN. Raises ValueError naming the value that is not a number.
        """
        whole = True
        try:
            values = self._pick_state(observation) + self._pick_action(action)
        except KeyError:
            whole = False
            session = self._session
            values = (*map(observation.get, session.state_names), *map(action.get, session.action_names))
        # Robots give floats: comparing the types costs a fraction of converting each value.
        if [*map(type, values)] != self._all_floats:
            names = (*self._session.state_names, *self._session.action_names)
            values = tuple(number(name, value) for name, value in zip(names, values, strict=True))
        return values, whole

    def beyond(
        self,
        observation: Mapping[str, Any],
        action: Mapping[str, Any],
        sent_action: Mapping[str, Any] | None,
        extra: Mapping[str, Any] | None,
        *,
        columns: bytes,
        observation_age_us: int,
        whole: bool,
    ) -> bytes:
        """What the frame has beyond its vectors, encoded; empty if there is nothing.

        columns  packed values of the session's columns
        whole    whether observation and action have all their names
        """
        if not (
            extra
            or columns
            or observation_age_us > 0
            or not whole
            # All names are there, so there are unknown ones only if there are more.
            or (len(observation) != self._state_count and not observation.keys() <= self._known_state)
            or len(action) != self._action_count
            or (sent_action is not None and differ(sent_action, action))
        ):
            return b""
        known = self._known_state, self._known_action
        beyond = encode_all_extra(observation, action, known, sent_action, extra)
        return encode_beyond(beyond, observation_age_us=max(observation_age_us, 0), columns=columns)
