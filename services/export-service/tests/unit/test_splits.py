"""Which episodes are for training and which for what else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_export.planning.pieces import Piece
from teleop_export.planning.splits import check_split, split_pieces
from teleop_schema.errors import BadInput

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def pieces(episodes, session=1):
    return [Piece(session, 10 * number, 10 * number + 10, "pick", number) for number in range(episodes)]


@given(st.integers(3, 200), st.integers(0, 2**63 - 1), st.lists(st.integers(1, 100), min_size=2, max_size=3))
def test_every_piece_is_in_exactly_one_split(episodes, seed, weights):
    """In ranges that lie one after the other, none of them empty, as large as their shares ask for."""
    split = {f"part-{number}": weight / sum(weights) for number, weight in enumerate(weights)}
    found, ranges = split_pieces(pieces(episodes), split, seed)
    assert sorted(found, key=lambda piece: piece.first) == pieces(episodes)
    assert list(ranges) == list(split)
    reached = 0
    for name, (first, end) in ranges.items():
        assert first == reached < end
        assert abs((end - first) - max(1, split[name] * episodes)) < len(split)
        assert sorted(found[first:end], key=lambda piece: piece.first) == list(found[first:end])
        reached = end
    assert reached == episodes


def test_shares_become_numbers_of_episodes():
    """What is over goes to who lacks most."""
    assert split_pieces(pieces(10), SHARES, 0)[1] == {"train": (0, 8), "val": (8, 9), "test": (9, 10)}
    assert split_pieces(pieces(3), SHARES, 0)[1] == {"train": (0, 1), "val": (1, 2), "test": (2, 3)}


def test_same_seed_draws_the_same():
    """Another one draws others."""
    first, _ = split_pieces(pieces(50), SHARES, 1)
    assert split_pieces(pieces(50), SHARES, 1)[0] == first
    assert split_pieces(pieces(50), SHARES, 2)[0] != first


def test_pieces_of_an_episode_stay_together():
    """An episode that was split at a gap would else be judged by its own other half."""
    cut = [
        piece
        for number in range(20)
        for piece in (
            Piece(1, 20 * number, 20 * number + 8, "pick", number),
            Piece(1, 20 * number + 10, 20 * number + 20, "pick", number),
        )
    ]
    found, ranges = split_pieces(cut, {"train": 0.5, "val": 0.5}, 3)
    halves = [{piece.episode_index for piece in found[first:end]} for first, end in ranges.values()]
    assert not halves[0] & halves[1]


def test_nothing_asked_for_changes_nothing():
    """The order of the recording."""
    assert split_pieces(pieces(5), {}, 0) == (tuple(pieces(5)), {})


def test_more_parts_than_episodes_are_refused():
    """With the number that there are."""
    with pytest.raises(BadInput) as refused:
        split_pieces(pieces(2), SHARES, 0)
    assert (refused.value.field, refused.value.limit) == ("split", 2)


@pytest.mark.parametrize("split", [{"train": 0.5}, {"train": 0.9, "val": 0.2}])
def test_shares_add_up_to_one(split):
    """So that nothing is left out by mistake."""
    with pytest.raises(BadInput, match="add up") as refused:
        check_split(split)
    assert refused.value.field == "split"
