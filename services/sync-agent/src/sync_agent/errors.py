"""What can go wrong for the agent as a whole."""


class AgentError(Exception):
    """The agent can't do what was asked of it; the message says what to do about it."""


class LeftChanged(Exception):
    """Files changed between the look at a dataset and their reading: the next look decides."""
