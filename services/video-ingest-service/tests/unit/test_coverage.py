"""Which frames of a session a camera shows."""

from hypothesis import given
from hypothesis import strategies as st
from teleop_schema.files import DroppedFrames
from teleop_video_ingest.model.coverage import MAX_NAMED_GAPS, CoveredChunk, cover, runs_of


def chunk(index, indices, *, dropped=(), fps=30.0, quarantined=False, span_us=None) -> CoveredChunk:
    return CoveredChunk(
        index=index,
        span_us=span_us or (index * 10_000_000, (index + 1) * 10_000_000),
        runs=None if indices is None else runs_of(indices, fps=None if quarantined else fps, session_fps=60),
        dropped=[DroppedFrames(*each) for each in dropped],
        pictures=len(indices or ()),
        quarantined=quarantined,
    )


def gaps_of(coverage) -> list[tuple[int, int, str]]:
    return [(gap.first, gap.end, gap.reason) for gap in coverage.uncovered]


def test_a_slower_camera_covers_every_frame():
    """At 30 pictures a second a loop of 60 sees each twice, and once in a while three times."""
    indices = [0, 2, 4, 7, 9, 11]
    found = cover("front", [chunk(0, indices)], frames=13)
    assert (found.covered, found.uncovered, found.known) == (13, [], True)


def test_every_missing_frame_has_its_reason():
    """Dropped by the robot, not yet arrived, quarantined, before the camera began."""
    chunks = [
        chunk(0, range(10, 20), fps=60),
        chunk(1, range(30, 40), dropped=[(21, 30, "the encoder was too slow")], fps=60),
        chunk(3, range(60, 70), fps=60),
        chunk(4, range(70, 80), fps=60, quarantined=True),
    ]
    found = cover("front", chunks, frames=100)
    assert gaps_of(found) == [
        (0, 10, "before the camera's first picture"),
        (21, 30, "the encoder was too slow"),
        (41, 60, "no video has arrived for it"),
        (71, 80, "its chunk can't be used"),
        (80, 100, "no video has arrived for it"),
    ]
    assert found.missing_chunks == [(2, 3)]
    assert (found.chunks, found.quarantined, found.pictures) == (4, 1, 30)


def test_nothing_is_said_of_chunks_without_frame_numbers():
    """A sender of plain video knows no frames of the session."""
    found = cover("front", [chunk(0, None)], frames=100)
    assert (found.known, found.covered, found.uncovered) == (False, 0, [])


def test_chunks_of_the_same_time_are_counted_and_named():
    """Four of the same ten seconds are 1200 pictures, of which 900 show what was shown already."""
    pictures = range(0, 600, 2)
    ten_s = (0, 10_000_000)
    found = cover("front", [chunk(index, pictures, span_us=ten_s) for index in range(4)], frames=600)
    assert (found.pictures, found.repeated) == (1200, 900)
    assert [(each.chunk_index, each.shown_by, each.pictures) for each in found.overlaps] == [
        (1, 0, 300),
        (2, 0, 300),
        (3, 0, 300),
    ]


def test_chunks_that_share_a_part_of_their_time():
    """Half of it is repeated; one that only touches the next, or is no usable video, repeats nothing."""
    pictures = range(0, 600, 2)
    chunks = [
        chunk(0, pictures, span_us=(0, 10_000_000)),
        chunk(1, pictures, span_us=(5_000_000, 15_000_000)),
        chunk(2, pictures, span_us=(14_970_000, 24_970_000)),
        chunk(3, pictures, span_us=(0, 10_000_000), quarantined=True),
    ]
    found = cover("front", chunks, frames=600)
    assert [(each.chunk_index, each.shown_by, each.pictures) for each in found.overlaps] == [(1, 0, 150)]


def test_a_camera_without_video_covers_nothing():
    """It was announced, no picture has come."""
    found = cover("front", [], frames=5)
    assert gaps_of(found) == [(0, 5, "no video has arrived for it")]


def test_an_answer_names_so_many_gaps_and_counts_all():
    """A camera that gave a picture now and then has no answer without end."""
    found = cover("front", [chunk(0, range(0, 50_000, 10), fps=60)], frames=50_000)
    assert len(found.uncovered) == MAX_NAMED_GAPS
    assert found.covered == 2 * 5000


@given(
    indices=st.lists(st.integers(0, 300), unique=True).map(sorted),
    cut=st.integers(0, 20),
    frames=st.integers(0, 250),
    dropped=st.lists(st.tuples(st.integers(0, 250), st.integers(1, 30)), max_size=4),
)
def test_covered_and_uncovered_make_up_the_session(indices, cut, frames, dropped):
    """Each frame is covered or in exactly one gap, whatever came."""
    named = [(first, first + length, "dropped") for first, length in dropped]
    parts = [indices[:cut], indices[cut:]]
    chunks = [chunk(number, part, dropped=named) for number, part in enumerate(parts)]
    found = cover("front", chunks, frames=frames)
    uncovered = [frame for gap in found.uncovered for frame in range(gap.first, gap.end)]
    assert uncovered == sorted(set(uncovered))
    assert all(0 <= frame < frames for frame in uncovered)
    assert found.covered == frames - len(uncovered)
    shown = {frame for index in indices for frame in range(index, index + 3)}
    assert set(uncovered) == set(range(frames)) - shown
