"""How depth becomes video, as LeRobot 0.6.1 has it by default (lerobot.configs.video.DepthEncoderConfig).

A picture of depth is quantised to DEPTH_BITS, logarithmically, so that what is near keeps more: code 0 stands
for DEPTH_MIN_M and less (also for 0, with which cameras say that they measured nothing), DEPTH_MAX_CODE for
DEPTH_MAX_M and more. The codes are kept without loss, as HEVC of one channel.
"""

from typing import Final, Literal

# What a camera's numbers mean: uint16 are mm, float32 are m.
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
