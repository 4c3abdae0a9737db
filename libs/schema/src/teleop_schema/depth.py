"""How depth becomes video, as in LeRobot 0.6.1 by default (lerobot.configs.video.DepthEncoderConfig).

A depth picture is quantised to DEPTH_BITS, logarithmically, so that near values are more exact.
Code 0 stands for DEPTH_MIN_M and less (also for 0, which cameras use for "nothing measured"),
DEPTH_MAX_CODE for DEPTH_MAX_M and more. The codes are stored without loss, as HEVC with one channel.
"""

from typing import Final, Literal

# The unit of a camera's numbers: uint16 are mm, float32 are m.
DepthUnit = Literal["mm", "m"]

DEPTH_BITS: Final = 12
DEPTH_MAX_CODE: Final = (1 << DEPTH_BITS) - 1
DEPTH_MIN_M: Final = 0.01
DEPTH_MAX_M: Final = 10.0
# Added to a distance before its logarithm is taken.
DEPTH_SHIFT_M: Final = 3.5
DEPTH_CODEC: Final = "hevc"
DEPTH_PIX_FMT: Final = "gray12le"
MM_PER_M: Final = 1000.0
