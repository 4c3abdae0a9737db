"""What two datasets have in common, episode by episode as they were recorded. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from teleop_export.planning.order import ComparedExport, Order
from teleop_export.planning.pieces import Piece
from teleop_export.planning.stages import Status

# Of each kind, one by one; an answer is made in memory. The counts are of all.
MAX_TOLD = 1000
S_PER_HOUR = 3600

LABELS = ("outcome", "reason", "quality", "tags", "operator")


class ComparedDataset(Struct, frozen=True, kw_only=True):
    """One of the two.

    episodes  of the dataset
    frames    rows; until it is done, as many as they may become
    hours     that it plays
    labelled  whether it has labels: without them, none can differ
    """

    id: int
    repo_id: str
    status: Status
    episodes: int
    frames: int
    hours: float
    labelled: bool


class ComparedEpisode(Struct, frozen=True, kw_only=True):
    """An episode as it was recorded.

    episode_index  in its session; null: the session has none, and is one
    frames         recorded ones that are in the dataset
    """

    session_id: int
    episode_index: int | None
    frames: int


class ComparedEpisodes(Struct, frozen=True, kw_only=True):
    """Episodes that one dataset has and the other has not.

    frames    recorded ones, of all of them
    hours     that they lasted
    episodes  how many they are
    first     up to a thousand of them, in the order of the dataset
    """

    frames: int
    hours: float
    episodes: int
    first: list[ComparedEpisode]


class LabelChange(Struct, frozen=True, kw_only=True):
    """What was known of an episode, and what is.

    label   "task", or a label of `meta/episodes`
    before  what the baseline has
    after   what the export has
    """

    label: str
    before: Any
    after: Any


class RelabelledEpisode(Struct, frozen=True, kw_only=True):
    """An episode of both, of which something else is known.

    episode_index  in its session
    changes        what differs
    """

    session_id: int
    episode_index: int | None
    changes: list[LabelChange]


class RecutEpisode(Struct, frozen=True, kw_only=True):
    """An episode of both that has other frames: it was trimmed, or more of them have arrived.

    episode_index  in its session
    before, after  how many recorded frames of it
    """

    session_id: int
    episode_index: int | None
    before: int
    after: int


class Comparison(Struct, frozen=True, kw_only=True):
    """How `export` differs from `baseline`; lists have up to a thousand entries, counts are of all.

    export            the one that was asked about
    baseline          the other
    added             episodes that only `export` has
    removed           episodes that only `baseline` has
    relabelled        episodes of both with other labels or tasks
    relabelled_count  how many they are
    recut             episodes of both with other frames
    recut_count       how many they are
    same              episodes of both in which nothing differs
    """

    export: ComparedDataset
    baseline: ComparedDataset
    added: ComparedEpisodes
    removed: ComparedEpisodes
    relabelled: list[RelabelledEpisode]
    relabelled_count: int
    recut: list[RecutEpisode]
    recut_count: int
    same: int


type _Key = tuple[int, int | None]


def compare(export: ComparedExport, baseline: ComparedExport) -> Comparison:
    """What `export` has that `baseline` has not, and the other way round."""
    ours, theirs = _recorded(export.order.pieces), _recorded(baseline.order.pieces)
    labelled = export.order.labelled and baseline.order.labelled
    both = [key for key in ours if key in theirs]
    changes = {key: _changes(theirs[key], ours[key], labelled=labelled) for key in both}
    relabelled = [key for key in both if changes[key]]
    recut = [key for key in both if _frames(ours[key]) != _frames(theirs[key])]
    return Comparison(
        export=_dataset(export),
        baseline=_dataset(baseline),
        added=_only(export.order, {key: ours[key] for key in ours if key not in theirs}),
        removed=_only(baseline.order, {key: theirs[key] for key in theirs if key not in ours}),
        relabelled=[
            RelabelledEpisode(session_id=key[0], episode_index=key[1], changes=changes[key])
            for key in relabelled[:MAX_TOLD]
        ],
        relabelled_count=len(relabelled),
        recut=[
            RecutEpisode(
                session_id=key[0],
                episode_index=key[1],
                before=_count(theirs[key]),
                after=_count(ours[key]),
            )
            for key in recut[:MAX_TOLD]
        ],
        recut_count=len(recut),
        same=len(set(both) - {*relabelled, *recut}),
    )


def _dataset(export: ComparedExport) -> ComparedDataset:
    return ComparedDataset(
        id=export.id,
        repo_id=export.repo_id,
        status=export.status,
        episodes=len(export.order.pieces),
        frames=export.report.exported,
        hours=round(export.report.exported / export.order.fps / S_PER_HOUR, 4),
        labelled=export.order.labelled,
    )


def _recorded(pieces: Iterable[Piece]) -> dict[_Key, list[Piece]]:
    """The pieces of each recorded episode."""
    found: dict[_Key, list[Piece]] = {}
    for piece in pieces:
        found.setdefault((piece.session_id, piece.episode_index), []).append(piece)
    return found


def _only(order: Order, episodes: Mapping[_Key, Sequence[Piece]]) -> ComparedEpisodes:
    hz = {source.session_id: source.fps for source in order.sources}
    seconds = sum(_count(pieces) / hz[session] for (session, _), pieces in episodes.items())
    return ComparedEpisodes(
        frames=sum(map(_count, episodes.values())),
        hours=round(seconds / S_PER_HOUR, 4),
        episodes=len(episodes),
        first=[
            ComparedEpisode(session_id=session, episode_index=index, frames=_count(pieces))
            for (session, index), pieces in list(episodes.items())[:MAX_TOLD]
        ],
    )


def _count(pieces: Sequence[Piece]) -> int:
    return sum(piece.frames for piece in pieces)


def _frames(pieces: Sequence[Piece]) -> list[Any]:
    return [(piece.first, piece.end, piece.pauses) for piece in pieces]


def _changes(before: Sequence[Piece], after: Sequence[Piece], *, labelled: bool) -> list[LabelChange]:
    was, now = _known(before, labelled=labelled), _known(after, labelled=labelled)
    return [
        LabelChange(label=name, before=was[name], after=now[name]) for name in was if was[name] != now[name]
    ]


def _known(pieces: Sequence[Piece], *, labelled: bool) -> dict[str, Any]:
    told = [task for piece in pieces for task in (piece.task, *(task for _, task in piece.changes))]
    labels = pieces[0].labels
    known: dict[str, Any] = {"task": list(dict.fromkeys(told))}
    return known | {name: getattr(labels, name) for name in LABELS if labelled}
