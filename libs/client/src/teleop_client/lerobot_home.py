"""Where LeRobot keeps datasets."""

import os
from pathlib import Path


def lerobot_home() -> Path:
    """$HF_LEROBOT_HOME, $HF_HOME/lerobot, or lerobot in the cache of Hugging Face.

    The same as in lerobot.utils.constants and huggingface_hub.constants.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    huggingface = os.path.expandvars(os.environ.get("HF_HOME") or str(cache))
    home = os.environ.get("HF_LEROBOT_HOME") or str(Path(huggingface).expanduser() / "lerobot")
    return Path(home).expanduser()
