"""An episode's statistics as LeRobot computes them never contradict its rows; after a hole they do."""

import numpy as np
import pytest
from teleop_dataset.repair.own_stats import COMPARED, contradictions


def told(values):
    """LeRobot's own statistics, as an episode's row has them."""
    from lerobot.datasets.compute_stats import compute_episode_stats

    with np.errstate(all="ignore"):
        stats = compute_episode_stats({"it": values}, {"it": {"dtype": str(values.dtype)}})["it"]
    return {name: stats[name].tolist() for name in COMPARED}


CHANCE = np.random.default_rng(0)
KINDS = {
    "constant": lambda frames: np.full((frames, 2), 0.1, np.float32),
    "degrees": lambda frames: (CHANCE.normal(size=(frames, 6)) * 90).astype(np.float32),
    "far from 0": lambda frames: (1000 + CHANCE.normal(size=(frames, 2)) / 100).astype(np.float32),
    "tiny": lambda frames: (CHANCE.normal(size=(frames, 2)) * 1e-30).astype(np.float32),
    "huge": lambda frames: (CHANCE.normal(size=(frames, 2)) * 1e30).astype(np.float32),
    "infinite": lambda frames: np.where(CHANCE.random((frames, 2)) < 0.1, np.inf, 1).astype(np.float32),
    "not a number": lambda frames: np.where(CHANCE.random((frames, 2)) < 0.1, np.nan, 1).astype(np.float32),
    "double": lambda frames: CHANCE.normal(size=(frames, 2)) * 1e6,
    "int64": lambda frames: CHANCE.integers(-(2**40), 2**40, (frames, 1)),
    "wall clock": lambda frames: np.arange(frames)[:, None] * 33_333_333 + 1_763_860_000_000_000_000,
    "uint8": lambda frames: CHANCE.integers(0, 255, (frames, 3)).astype(np.uint8),
    "bool": lambda frames: CHANCE.random((frames, 1)) < 0.01,
    "grid": lambda frames: CHANCE.normal(size=(frames, 2, 3)).astype(np.float32),
}


@pytest.mark.parametrize("frames", [1, 2, 300, 30_000])
@pytest.mark.parametrize("kind", KINDS)
# LeRobot's own histograms have nothing to say about these.
@pytest.mark.filterwarnings("ignore")
def test_what_lerobot_computed_contradicts_nothing(kind, frames):
    """Whatever the rounding of single precision, and whatever a robot gives."""
    values = KINDS[kind](frames)
    try:
        stats = told(values)
    except ValueError:
        pytest.skip("LeRobot can't record it")
    assert not contradictions(values, stats).any()


@pytest.mark.parametrize("kind", ["constant", "degrees", "double", "uint8", "grid"])
def test_zeros_instead_of_values_do(kind):
    """By at least two statistics of the same values."""
    values = KINDS[kind](400)
    stats = told(values)
    values[100:150] = 0
    assert (contradictions(values, stats).sum(axis=0) > 1).any()


def test_damage_of_one_statistic_is_none_of_the_rows():
    """It alone differs."""
    values = KINDS["degrees"](400)
    stats = told(values) | {"mean": [0.0] * 5 + [77.0]}
    assert contradictions(values, stats).sum(axis=0).max() == 1
