"""Which partition moves next: for every view of the servers, by Hypothesis."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.backend.store.balance import CALM_SECONDS, Move, View, follows_rather, next_move, order, salt_of

NAMES = [f"s{number}" for number in range(8)]
members = st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True)


@st.composite
def views(draw: st.DrawFn) -> View:
    """A calm view in which every partition has a serving owner among the members."""
    there = draw(members)
    owners: list[str | None] = list(draw(st.lists(st.sampled_from(there), min_size=1, max_size=24)))
    return View(CALM_SECONDS, 0.0, there, owners)


def moved(view: View, move: Move) -> View:
    owners = list(view.owners)
    owners[move.partition] = move.target
    return view._replace(owners=owners)


@given(views(), st.randoms())
def test_all_that_see_the_same_agree(view: View, random: object) -> None:
    """The order in which a server lists the members makes no difference, nor does the time since the last change, once it is calm."""
    shuffled = list(view.members)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert next_move(view._replace(members=shuffled, now=view.now + 1_000)) == next_move(view)


@given(views())
def test_moving_ends_and_leaves_no_server_with_two_more_than_another(view: View) -> None:
    """Each move is one partition, from its owner to another member; after at most as many moves as there are partitions nothing moves."""
    before = Counter(view.owners)
    moves = 0
    while (move := next_move(view)) is not None:
        assert view.owners[move.partition] == move.source != move.target
        assert move.target in view.members
        view = moved(view, move)
        moves += 1
    held = [Counter(view.owners)[name] for name in view.members]
    assert max(held) - min(held) <= 1
    # No more moves than a partition too many needs.
    assert moves <= sum(max(0, count - len(view.owners) // len(view.members)) for count in before.values())


@given(views(), st.data())
def test_nothing_moves_while_a_partition_has_no_serving_owner(view: View, data: st.DataObject) -> None:
    """One partition whose owner is missing, or is not among the members, stops all moves."""
    owners = list(view.owners)
    owners[data.draw(st.integers(0, len(owners) - 1))] = data.draw(st.sampled_from([None, "gone"]))
    assert next_move(view._replace(owners=owners)) is None


@given(views(), st.floats(0, CALM_SECONDS, exclude_max=True))
def test_nothing_moves_within_thirty_seconds_of_a_change(view: View, since: float) -> None:
    """The members must have been the same for a while."""
    assert next_move(view._replace(now=since)) is None


@given(members, st.integers(0, 127), st.sampled_from(NAMES))
def test_a_member_that_goes_changes_no_order_of_the_others(there: list[str], partition: int, gone: str) -> None:
    """What rendezvous hashing is for: the partitions of the others stay where they are."""
    ranks = order(there, salt_of(partition))
    assert order([name for name in there if name != gone], salt_of(partition)) == [name for name in ranks if name != gone]


def test_the_partitions_of_a_server_that_dies_go_to_different_ones() -> None:
    """The order differs from partition to partition."""
    assert {order(NAMES, salt_of(partition))[0] for partition in range(128)} == set(NAMES)


@given(views(), st.integers(0, 23), st.data())
def test_of_two_one_at_most_should_follow_rather_than_the_other(view: View, partition: int, data: st.DataObject) -> None:
    """Two standbys never take the place of each other in turn, and the next owner keeps it against all."""
    partition %= len(view.owners)
    one, other = (data.draw(st.sampled_from(NAMES)) for _ in range(2))
    assert not (follows_rather(view, partition, one, other) and follows_rather(view, partition, other, one))
    move = next_move(view)
    if move is not None:
        assert not follows_rather(view, move.partition, other, move.target)
