"""Statistics against numpy over all values at once."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from teleop_dataset.v3.numbering import (
    Episodes,
    dataset_numbering_stats,
    numbering_columns,
    numbering_stats,
)
from teleop_dataset.v3.recorded_stats import RecordedStats
from teleop_dataset.v3.selection import Selection
from teleop_dataset.v3.stats import LEVELS, Moments, count_finite, dataset_document, describe, promoted

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
TIMES = st.integers(1_700_000_000_000_000_000, 1_800_000_000_000_000_000)


def exactly(stats, values, episode=0):
    """Order statistics are numpy's to the last bit; sums agree as far as float64 goes."""
    exact = values.astype(np.float64) if values.dtype.kind == "f" else values
    assert stats.count[episode] == len(values)
    np.testing.assert_array_equal(stats.low[episode], values.min(axis=0))
    np.testing.assert_array_equal(stats.high[episode], values.max(axis=0))
    np.testing.assert_array_equal(stats.quantiles[episode], np.quantile(exact, LEVELS, axis=0))
    scale = np.abs(exact).max(axis=0).astype(float)
    np.testing.assert_allclose(stats.mean[episode], exact.mean(axis=0), atol=1e-12 * scale.max(), rtol=1e-12)
    spread = (exact - exact[:1]).std(axis=0)
    np.testing.assert_allclose(stats.std[episode], spread, atol=1e-12 * scale.max(), rtol=1e-9)


def whole(episodes):
    """Statistics of the dataset that consists of `episodes`, the way the exporter finds them."""
    moments = Moments()
    for values in episodes:
        moments.add(describe({"x": values}, np.array([len(values)]))["x"])
    if episodes[0].dtype == np.float32:
        selections = [Selection.of_floats() for _ in moments.low]
    else:
        bounds = zip(moments.low, moments.high, strict=True)
        selections = [Selection.between(low, high) for low, high in bounds]
    while not all(each.done for each in selections):
        for selection in selections:
            if selection.done:
                continue
            for values in episodes:
                selection.feed(values[:, selections.index(selection)])
            selection.end_pass()
    return moments.finish(np.stack([each.quantiles() for each in selections], axis=1))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.data())
@settings(deadline=None, max_examples=60)
def test_floats(lengths, data):
    """Any float32 values, in episodes of any lengths."""
    episodes = [data.draw(arrays(np.float32, (length, 2), elements=FLOATS)) for length in lengths]
    together = np.concatenate(episodes)
    stats = describe({"x": together}, np.array(lengths))["x"]
    for number, values in enumerate(episodes):
        exactly(stats, values, number)
    exactly(whole(episodes), together)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.data())
@settings(deadline=None, max_examples=60)
def test_wall_clock(lengths, data):
    """Nanoseconds since 1970, in any order, though a float64 can't hold them."""
    episodes = [data.draw(arrays(np.int64, (length, 1), elements=TIMES)) for length in lengths]
    exactly(whole(episodes), np.concatenate(episodes))


@pytest.mark.parametrize(
    ("kind", "elements"),
    [
        (np.float64, st.floats(-(2.0**500), 2.0**500)),
        (np.uint64, st.integers(0, 2**64 - 1)),
        (np.int64, st.integers(-(2**63), 2**63 - 1)),
    ],
)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4), data=st.data())
@settings(deadline=None, max_examples=40)
def test_the_whole_range_of_wide_types(kind, elements, lengths, data):
    """Order statistics of values that are further apart than their type can tell."""
    episodes = [data.draw(arrays(kind, (length, 1), elements=elements)) for length in lengths]
    stats, together = whole(episodes), np.concatenate(episodes)
    assert (stats.low[0, 0], stats.high[0, 0]) == (together.min(), together.max())
    exact = together.astype(np.longdouble)
    # Next to nothing, numbers are this far apart, whatever they are rounded by.
    step = float(np.finfo(float).smallest_subnormal)
    scale = float(np.abs(exact).max()) or 1.0
    expected = np.quantile(exact, LEVELS, axis=0).astype(float)
    np.testing.assert_allclose(stats.quantiles[0], expected, rtol=1e-15, atol=1e-15 * scale + step)
    np.testing.assert_allclose(stats.mean[0], exact.mean(axis=0).astype(float), atol=1e-14 * scale + step)
    np.testing.assert_allclose(
        stats.std[0], exact.std(axis=0).astype(float), atol=1e-14 * scale + 1e-150, rtol=1e-7
    )


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint16, np.float16, np.float64])
def test_values_of_two_dimensions(kind):
    """As LeRobot has it: all but the last are further values, and what is counted are frames."""
    values = (np.random.default_rng(5).normal(size=(20, 3, 2)) * 50).astype(kind)
    stats = describe({"x": values}, np.array([5, 15]))["x"]
    for episode, part in enumerate((values[:5], values[5:])):
        flat = part.reshape(-1, 2).astype(np.float64)
        assert stats.count[episode] == len(part)
        np.testing.assert_array_equal(stats.low[episode], flat.min(axis=0))
        np.testing.assert_allclose(stats.mean[episode], flat.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(stats.quantiles[episode], np.quantile(flat, LEVELS, axis=0), rtol=1e-12)


def test_values_too_large_for_squares():
    """Statistics of the largest doubles are finite: no other document is JSON."""
    values = np.array([[np.finfo(float).max], [-np.finfo(float).max], [0.0]])
    stats = whole([values, values])
    assert all(np.isfinite(each).all() for each in (stats.mean, stats.std, stats.quantiles))
    assert stats.high[0, 0] == np.finfo(float).max


def test_quantiles_between_values_that_are_too_far_apart():
    """Their difference is more than a double holds; what lies between them is not."""
    largest = np.finfo(float).max
    stats = describe({"x": np.array([[largest], [-largest]])}, np.array([2]))["x"]
    np.testing.assert_allclose(stats.quantiles[0, :, 0], largest * (2 * LEVELS - 1), atol=largest * 1e-15)


def test_thousands_of_columns_count_in_bounded_memory():
    """They are looked at more often instead."""
    few, many = (Selection.between(np.int64(0), np.int64(2**40), columns) for columns in (1, 5000))
    assert many.passes_left > few.passes_left
    assert sum(each.nbytes for each in many._counts.values()) * 5000 * 10 <= 128 * 1024**2


@pytest.mark.parametrize("value", [0.0, -0.0, 3.3, -1e-30])
def test_constant_values(value):
    """Every statistic of a joint that does not move is where it stands."""
    values = np.full((50, 1), value, np.float32)
    stats = whole([values, values])
    assert (stats.quantiles == np.float32(value)).all()
    assert stats.std[0, 0] == pytest.approx(0, abs=1e-15)


def test_many_values():
    """A realistic column: a million values, most of them close together."""
    values = np.random.default_rng(3).normal(30, 2, (1_000_000, 1)).astype(np.float32)
    exactly(whole(np.split(values, 100)), values)


def test_describing_leaves_the_values_as_they_were():
    """The columns are still to be written."""
    values = np.array([[3], [1], [2]])
    describe({"x": values}, np.array([3]))
    assert values.ravel().tolist() == [3, 1, 2]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.sampled_from([15, 30, 60]), st.data())
@settings(deadline=None, max_examples=60)
def test_numbering(lengths, fps, data):
    """The columns that follow from lengths and tasks alone have the statistics of their values."""
    cuts = [data.draw(st.sets(st.integers(1, max(1, n - 1)), max_size=2)) for n in lengths]
    task_rows = [np.diff(sorted({0, *cut, n})) for cut, n in zip(cuts, lengths, strict=True)]
    runs = sum(map(len, task_rows))
    tasks = data.draw(st.lists(st.integers(0, 3), min_size=runs, max_size=runs))
    episodes = Episodes(0, 0, np.array(lengths), np.array(tasks), np.concatenate(task_rows))
    columns = numbering_columns(episodes, fps)
    of_episodes, of_dataset = numbering_stats(episodes, fps), dataset_numbering_stats([episodes], fps)
    for key, column in columns.items():
        exactly(of_dataset[key], column[:, None])
        for number, values in enumerate(np.split(column[:, None], episodes.ends[:-1])):
            exactly(of_episodes[key], values, number)


def test_numbering_in_parts():
    """Episodes written in several goes are numbered on."""
    first = Episodes(0, 0, np.array([3, 2]), np.array([0, 1]), np.array([3, 2]))
    second = Episodes(2, 5, np.array([4]), np.array([0]), np.array([4]))
    columns = numbering_columns(second, 60)
    assert columns["index"].tolist() == [5, 6, 7, 8]
    assert columns["episode_index"].tolist() == [2, 2, 2, 2]
    assert columns["frame_index"].tolist() == [0, 1, 2, 3]
    stats = dataset_numbering_stats([first, second], 60)
    assert stats["index"].high[0, 0] == 8
    assert stats["episode_index"].count[0] == 9


def recorded(root, episodes):
    """Statistics of `x` over a dataset of these episodes, and how many passes over its files they took."""
    stats = RecordedStats({"x": {"dtype": episodes[0].dtype.name, "shape": [1], "names": None}})
    path = root / "data/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, pa.schema([("x", pa.from_numpy_dtype(episodes[0].dtype))])) as writer:
        for values in episodes:
            stats.add({"x": values}, describe({"x": values}, np.array([len(values)])))
            writer.write_table(pa.table({"x": values[:, 0]}))
    seen = []
    found = stats.finish(root, lambda done, total: seen.append(total))
    return found["x"], seen[-1] // sum(map(len, episodes))


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [(np.int64, TIMES), (np.uint16, st.integers(0, 2**16 - 1)), (np.int8, st.integers(-128, 127))],
    ids=["int64", "uint16", "int8"],
)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_what_never_descends_is_looked_at_once(kind, numbers, data):
    """Times do not, nor do counters; whether values descend within an episode, or from one to the next."""
    every = data.draw(st.lists(numbers, min_size=1, max_size=60))
    ascending = data.draw(st.booleans())
    values = np.array(sorted(every) if ascending else every, kind)[:, None]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(every) - 1), max_size=4)) if len(every) > 1 else [])
    with TemporaryDirectory() as folder:
        found, passes = recorded(Path(folder), np.split(values, cuts))
    exactly(found, promoted(values))
    assert passes == 1 or every != sorted(every)


@pytest.mark.parametrize("columns", [1, 40, 4000])
def test_floats_of_any_number_of_columns(columns):
    """The more there are, the fewer bits a pass settles."""
    values = np.random.default_rng(5).normal(0, 40, 5000).astype(np.float32)
    selection = Selection.of_floats(columns)
    assert selection.passes_left == {1: 2, 40: 3, 4000: 4}[columns]
    while not selection.done:
        for part in np.split(values, 10):
            selection.feed(part)
        selection.end_pass()
    np.testing.assert_array_equal(selection.quantiles(), np.quantile(values.astype(np.float64), LEVELS))


def check_finite(stats, values, episode=0):
    """Statistics of those `values`, each column's own, that are finite; 0 where there are none."""
    for column in range(values.shape[1]):
        finite = values[np.isfinite(values[:, column]), column].astype(np.float64)
        some = finite if len(finite) else np.zeros(1)
        found = (stats.low, stats.high, stats.mean, stats.std)
        expected = (some.min(), some.max(), some.mean(), some.std())
        for mine, own in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine[episode, column], own, atol=1e-9 * max(1, np.abs(some).max()))
        np.testing.assert_array_equal(stats.quantiles[episode, :, column], np.quantile(some, LEVELS))


MAYBE_FINITE = st.one_of(st.floats(-1e6, 1e6, width=32), st.sampled_from([np.nan, np.inf, -np.inf]))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.data())
@settings(deadline=None, max_examples=40)
def test_values_that_are_not_finite_are_left_out(kind, lengths, data):
    """Of an episode's statistics and of the dataset's; what is counted are frames all the same."""
    episodes = [data.draw(arrays(kind, (length, 2), elements=MAYBE_FINITE)) for length in lengths]
    together = np.concatenate(episodes)
    of_episodes = describe({"x": together}, np.array(lengths))["x"]
    assert of_episodes.count.tolist() == lengths
    for number, values in enumerate(episodes):
        check_finite(of_episodes, values, number)
    with TemporaryDirectory() as folder:
        of_dataset = whole_of_files(Path(folder), episodes)
    assert of_dataset.count.tolist() == [len(together)]
    check_finite(of_dataset, together)


def whole_of_files(root, episodes):
    """Statistics of `x` over a dataset of these episodes, several values wide."""
    width = episodes[0].shape[1]
    feature = {"dtype": episodes[0].dtype.name, "shape": [width], "names": None}
    stats = RecordedStats({"x": feature})
    path = root / "data/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True)
    kind = pa.list_(pa.from_numpy_dtype(episodes[0].dtype), width)
    with pq.ParquetWriter(path, pa.schema([("x", kind)])) as writer:
        for values in episodes:
            stats.add({"x": values}, describe({"x": values}, np.array([len(values)])))
            writer.write_table(pa.table({"x": pa.FixedSizeListArray.from_arrays(values.ravel(), width)}))
    return stats.finish(root, lambda done, total: None)["x"]


def test_what_is_finite_is_counted_value_by_value():
    """Of each column in each episode; of several values in a frame all count."""
    values = np.array([[0.0, np.nan], [np.inf, np.nan], [1.0, 2.0]])
    assert count_finite(values, np.array([2, 1])).tolist() == [[1, 0], [1, 1]]
    nested = values[:, None].repeat(3, axis=1)
    assert count_finite(nested, np.array([2, 1])).tolist() == [[3, 0], [3, 3]]


def test_a_document_has_lerobots_order_and_shapes():
    """Of pictures each statistic is one of channels, (channels, 1, 1), but for the count."""
    stats = describe({"x": np.array([[1.0, 2.0], [3.0, 4.0]])}, np.array([2]))
    plain, pictures = dataset_document(stats), dataset_document(stats, {"x"})
    assert list(plain["x"]) == ["min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"]
    assert (plain["x"]["max"], plain["x"]["count"]) == ([3.0, 4.0], [2])
    assert (pictures["x"]["max"], pictures["x"]["count"]) == ([[[3.0]], [[4.0]]], [2])
