"""What the two cameras see: the moving arm, and the frame counter, drawn so that a program can read it.

As colours, and as depth, in which the brighter a thing is the farther away it is.
"""

import math
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Depth = NDArray[np.uint16]

VIEWS = ("front", "wrist")

# The counter is a strip of black and white blocks along the lower edge: COUNTER_BITS of the number, most
# significant first, then CHECK_BITS of its checksum. Blocks are large enough to survive video compression.
COUNTER_BITS = 24
CHECK_BITS = 8
COLUMNS = 16
ROWS = (COUNTER_BITS + CHECK_BITS) // COLUMNS
STRIP_SHARE = 6  # the strip takes a sixth of the height
MIN_HEIGHT, MIN_WIDTH = 48, 64
# Half way between the two: compression moves both.
WHITE_ABOVE = 128

# Depth of what is black, and of each level of brightness more.
NEAR_MM, MM_PER_LEVEL = 400, 6

_LINK_SHARES = (0.30, 0.26, 0.14)  # of the picture's height: upper arm, lower arm, hand
_LINK_COLOURS = ((235, 140, 40), (245, 190, 60), (250, 220, 130))
_JAW_COLOUR = (60, 60, 70)


def render(view: str, positions: dict[str, float], frame_number: int, *, height: int, width: int) -> Picture:
    """Picture of one camera.

    view          "front": the arm from the side; "wrist": the gripper and what lies between its jaws
    positions     name ("elbow_flex.pos") -> degrees, gripper 0 to 100
    frame_number  what `read_frame_counter` finds in the picture, modulo 2**24
    returns       (height, width, 3) uint8, RGB
    raises        ValueError for another view, or a picture smaller than 64 x 48
    """
    if height < MIN_HEIGHT or width < MIN_WIDTH:
        raise ValueError(f"a picture is at least {MIN_WIDTH} x {MIN_HEIGHT} pixels, not {width} x {height}")
    if view not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(VIEWS)}, not {view!r}")
    picture = _background(view, height, width).copy()
    if view == "front":
        _draw_arm(picture, positions)
    else:
        _draw_gripper(picture, positions)
    _draw_counter(picture, frame_number)
    return picture


def as_depth(picture: Picture) -> Depth:
    """Depth of a picture of `render`.

    returns  (height, width, 1) uint16, mm, from NEAR_MM on
    """
    # Of red, green and blue as much as of each makes brightness (ITU-R BT.601), of 256.
    brightness = picture.astype(np.uint16) @ np.array([77, 150, 29], np.uint16) >> 8
    return (NEAR_MM + MM_PER_LEVEL * brightness)[:, :, None].astype(np.uint16)


def depth_as_picture(depth: NDArray[np.generic]) -> Picture:
    """The grey picture that such depth, (height, width, 1) in mm, was made of, for `read_frame_counter`."""
    levels = (depth.astype(np.float64) - NEAR_MM) / MM_PER_LEVEL
    return np.broadcast_to(levels.clip(0, 255), (*depth.shape[:2], 3)).astype(np.uint8)


def read_frame_counter(image: Picture) -> int:
    """The number drawn into a picture of `render`, also after lossy compression or scaling.

    image   (H, W, 3) uint8
    raises  ValueError if there is no counter, or it can't be read
    """
    top, bottom = _strip(image.shape[0])
    bits = 0
    for row in range(ROWS):
        for column in range(COLUMNS):
            y = top + (bottom - top) * (2 * row + 1) // (2 * ROWS)
            x = image.shape[1] * (2 * column + 1) // (2 * COLUMNS)
            bits = bits << 1 | int(image[y - 1 : y + 2, x - 1 : x + 2].mean() > WHITE_ABOVE)
    number, check = bits >> CHECK_BITS, bits & (1 << CHECK_BITS) - 1
    if check != _checksum(number):
        raise ValueError("this picture has no readable frame counter")
    return number


def _checksum(number: int) -> int:
    # Never 0 for 0, so that a black strip is not taken for frame 0.
    return zlib.crc32(number.to_bytes(COUNTER_BITS // 8, "big")) & 0xFF


def _strip(height: int) -> tuple[int, int]:
    return height - height // STRIP_SHARE, height


def _draw_counter(picture: Picture, number: int) -> None:
    number %= 1 << COUNTER_BITS
    bits = number << CHECK_BITS | _checksum(number)
    height, width = picture.shape[:2]
    top, bottom = _strip(height)
    last = ROWS * COLUMNS - 1
    for row in range(ROWS):
        upper, lower = (top + (bottom - top) * edge // ROWS for edge in (row, row + 1))
        for column in range(COLUMNS):
            white = bits >> (last - row * COLUMNS - column) & 1
            left, right = (width * edge // COLUMNS for edge in (column, column + 1))
            picture[upper:lower, left:right] = 235 if white else 16


@cache
def _background(view: str, height: int, width: int) -> Picture:
    """A wall and a table for the front camera, a table with a block on it for the wrist camera."""
    shade = np.linspace(0.0, 1.0, height)[:, None, None]
    near, far = ((120, 140, 170), (205, 215, 230)) if view == "front" else ((150, 120, 90), (200, 170, 130))
    rows = np.array(far) * (1.0 - shade) + np.array(near) * shade
    picture: Picture = np.broadcast_to(rows, (height, width, 3)).astype(np.uint8)
    floor = _strip(height)[0]
    if view == "front":
        picture[floor - height // 10 : floor] = (110, 80, 55)
    else:
        block = height // 6
        picture[floor // 2 - block // 2 : floor // 2 + block // 2, width // 2 - block // 2 :][:, :block] = (
            (190, 40, 40),
        )
    return picture


def _draw_arm(picture: Picture, positions: dict[str, float]) -> None:
    height, width = picture.shape[:2]
    floor = _strip(height)[0]
    thickness = max(2, height // 40)
    # The base slides with shoulder_pan, so that every joint is seen from the side.
    x = width / 2 + width / 4 * math.sin(math.radians(positions["shoulder_pan.pos"]))
    y = float(floor - height // 10)
    angle = 90.0
    turns = (-positions["shoulder_lift.pos"], -positions["elbow_flex.pos"], -positions["wrist_flex.pos"])
    for share, colour, turn in zip(_LINK_SHARES, _LINK_COLOURS, turns, strict=True):
        angle += turn
        next_x = x + height * share * math.cos(math.radians(angle))
        next_y = y - height * share * math.sin(math.radians(angle))
        _draw_link(picture[:floor], (x, y), (next_x, next_y), thickness, colour)
        x, y = next_x, next_y
    opening = positions["gripper.pos"] / 100.0 * 35.0
    for side in (-1, 1):
        jaw = math.radians(angle + side * (8.0 + opening))
        tip = (x + height * 0.07 * math.cos(jaw), y - height * 0.07 * math.sin(jaw))
        _draw_link(picture[:floor], (x, y), tip, max(1, thickness // 2), _JAW_COLOUR)


def _draw_gripper(picture: Picture, positions: dict[str, float]) -> None:
    height, width = picture.shape[:2]
    floor = _strip(height)[0]
    roll = math.radians(positions["wrist_roll.pos"])
    across = (math.cos(roll), math.sin(roll))
    half_gap = height * (0.05 + 0.20 * positions["gripper.pos"] / 100.0)
    middle = (width / 2, floor / 2)
    for side in (-1, 1):
        x, y = middle[0] + side * half_gap * across[0], middle[1] + side * half_gap * across[1]
        along = (-across[1] * height * 0.18, across[0] * height * 0.18)
        ends = (x - along[0], y - along[1]), (x + along[0], y + along[1])
        _draw_link(picture[:floor], *ends, max(2, height // 24), _JAW_COLOUR)


def _draw_link(
    picture: Picture,
    start: tuple[float, float],
    end: tuple[float, float],
    radius: int,
    colour: tuple[int, int, int],
) -> None:
    """A thick line with round ends; what lies outside the picture is cut off."""
    height, width = picture.shape[:2]
    left = max(0, int(min(start[0], end[0])) - radius)
    right = min(width, int(max(start[0], end[0])) + radius + 1)
    upper = max(0, int(min(start[1], end[1])) - radius)
    lower = min(height, int(max(start[1], end[1])) + radius + 1)
    if left >= right or upper >= lower:
        return
    y, x = np.ogrid[upper:lower, left:right]
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    share = ((x - start[0]) * along_x + (y - start[1]) * along_y) / (along_x**2 + along_y**2)
    share = share.clip(0.0, 1.0)
    distance = (x - start[0] - share * along_x) ** 2 + (y - start[1] - share * along_y) ** 2
    picture[upper:lower, left:right][distance <= radius**2] = colour
