"""The heap of due times: the earliest first, moving a due time, and how much of the past it may hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.engine.deadlines import Deadlines
from tests.factories import NOW, dequeue, enqueue, make_engine, token_of


class Item:
    def __init__(self, name: str = "") -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def items(deadlines: Deadlines[Item], *dues: float) -> list[Item]:
    made = [Item(f"{n}") for n in range(len(dues))]
    for item, due in zip(made, dues, strict=True):
        deadlines.set(item, due)
    return made


def most(deadlines: Deadlines[Any]) -> float:
    """The most entries there may be."""
    return 2.5 * len(deadlines) + 80


def due_at(deadlines: Deadlines[Item], now: float) -> list[Item]:
    popped = []
    while (item := deadlines.pop(now)) is not None:
        popped.append(item)
    return popped


def test_nothing_is_due_of_nothing() -> None:
    """An empty heap has no next time and pops None for ever."""
    deadlines = Deadlines[Item]()
    assert (len(deadlines), deadlines.next(), deadlines.pop(1e18)) == (0, None, None)


def test_items_leave_at_their_time_the_earliest_first() -> None:
    """What is due leaves, a due time of this very moment included; what is not stays; ties leave as they were set."""
    deadlines = Deadlines[Item]()
    three, one, two, tie, later = items(deadlines, 3.0, 1.0, 2.0, 2.0, 3.001)
    assert deadlines.next() == 1.0
    assert due_at(deadlines, 0.999) == []
    assert due_at(deadlines, 3.0) == [one, two, tie, three]
    assert [deadlines.due(three), deadlines.due(later)] == [None, 3.001]
    assert len(deadlines) == 1
    assert deadlines.next() == 3.001


def test_due_time_moved_later_takes_effect_without_a_new_entry() -> None:
    """A heartbeat costs no heap entry: the old one comes up, is looked at and set anew."""
    deadlines = Deadlines[Item]()
    (item,) = items(deadlines, 1.0)
    for beat in range(2, 100):
        deadlines.set(item, float(beat))
    assert deadlines.entries == 1
    assert deadlines.pop(98.9) is None
    assert deadlines.next() == 99.0
    assert deadlines.pop(99.0) is item


def test_due_time_moved_earlier_takes_effect_at_once() -> None:
    """The earlier time counts, and the entry of the later one is nobody's."""
    deadlines = Deadlines[Item]()
    (item,) = items(deadlines, 10.0)
    deadlines.set(item, 5.0)
    assert deadlines.next() == 5.0
    assert due_at(deadlines, 5.0) == [item]
    assert due_at(deadlines, 10.0) == []


def test_item_taken_out_is_not_due_and_may_come_back() -> None:
    """Dropping takes an item out, twice as well as once; a new due time brings it back, at that time only."""
    deadlines = Deadlines[Item]()
    (item,) = items(deadlines, 1.0)
    deadlines.drop(item)
    deadlines.drop(item)
    assert len(deadlines) == 0
    assert due_at(deadlines, 1.0) == []
    deadlines.set(item, 1.0)
    deadlines.drop(item)
    deadlines.set(item, 4.0)
    assert due_at(deadlines, 3.9) == []
    assert due_at(deadlines, 4.0) == [item]
    assert len(deadlines) == 0


def test_the_earliest_leaves_first_though_its_neighbour_has_an_older_entry() -> None:
    """An item whose due time was moved later does not leave at its old entry's turn when both are overdue."""
    deadlines = Deadlines[Item]()
    moved, steady = items(deadlines, 1.0, 10.0)
    deadlines.set(moved, 20.0)
    assert due_at(deadlines, 30.0) == [steady, moved]


def test_entries_of_what_was_taken_out_are_swept() -> None:
    """Short lives leave no trail: entries are at most twice the items plus 64, and a quarter more while they are swept."""
    deadlines = Deadlines[Item]()
    staying = items(deadlines, *range(1_000, 1_100))
    for n in range(10_000):
        item = Item()
        deadlines.set(item, 5_000.0 + n)
        deadlines.drop(item)
        assert deadlines.entries <= most(deadlines)
    assert due_at(deadlines, 1e6) == staying


def test_moving_a_due_time_earlier_again_and_again_leaves_no_trail() -> None:
    """Entries stay within their bound when one item's time is moved earlier a thousand times."""
    deadlines = Deadlines[Item]()
    item = Item()
    for n in range(1_000):
        deadlines.set(item, 10_000.0 - n)
        assert deadlines.entries <= most(deadlines)
    assert due_at(deadlines, 1e6) == [item]


def test_items_that_leave_by_being_due_leave_no_trail() -> None:
    """Entries stay within their bound as items come up one by one, the later times they once had behind them."""
    deadlines = Deadlines[Item]()
    made = items(deadlines, *[1e6] * 200)
    for n, item in enumerate(made):
        deadlines.set(item, float(n))
    for n in range(200):
        assert deadlines.pop(float(n)) is made[n]
        assert deadlines.entries <= most(deadlines)


def test_items_set_back_to_a_time_they_had_before_leave_no_trail() -> None:
    """An item has one entry that counts, however often it returns to the same due time, as a job does to its expires_at.

    Entries that a sweep cannot drop make every item taken out sweep the whole heap in vain: purging 4,000 jobs whose lease
    expired once took half a second, 40,000 would take a minute.
    """
    deadlines = Deadlines[Item]()
    made, others = items(deadlines, *[1_000.0] * 200), items(deadlines, *[2_000.0] * 2_000)
    for turn in range(5):
        for item in made:
            deadlines.set(item, float(turn))
        assert set(due_at(deadlines, float(turn))) == set(made)
        for item in made:
            deadlines.set(item, 1_000.0)
    for item in others:
        deadlines.drop(item)
        assert deadlines.entries <= most(deadlines)
    assert sorted(due_at(deadlines, 1_000.0), key=id) == sorted(made, key=id)


def test_when_all_that_is_due_has_left_the_next_time_is_ahead() -> None:
    """However many entries went stale or were swept, next() is after the moment of a pop that found nothing more."""
    for dropped in (0, 50, 99, 100):
        deadlines = Deadlines[Item]()
        made = items(deadlines, *map(float, range(100)))
        for item in made[:dropped]:
            deadlines.drop(item)
        assert len(due_at(deadlines, 49.0)) == max(0, 50 - dropped)
        upcoming = deadlines.next()
        assert upcoming is None or upcoming > 49.0


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(0, 5), st.integers(0, 30)),
            st.tuples(st.just("drop"), st.integers(0, 5), st.just(0)),
            st.tuples(st.just("pass"), st.just(0), st.integers(0, 10)),
        ),
        max_size=200,
    )
)
def test_deadlines_are_a_dict_searched_from_end_to_end(steps: list[tuple[str, int, int]]) -> None:
    """Any mix of setting, dropping and letting time pass pops what a plain dict of due times says, the earliest first."""
    deadlines, now = Deadlines[Item](), 0.0
    made = [Item(f"{n}") for n in range(6)]
    model: dict[Item, float] = {}
    for what, which, seconds in steps:
        if what == "set":
            model[made[which]] = now + seconds
            deadlines.set(made[which], now + seconds)
        elif what == "drop":
            model.pop(made[which], None)
            deadlines.drop(made[which])
        else:
            now += seconds
            popped = []
            while (item := deadlines.pop(now)) is not None:
                popped.append(model.pop(item))
            assert popped == sorted(popped)
            assert not model or min(model.values()) > now
            upcoming = deadlines.next()
            assert upcoming is None or upcoming > now
        assert len(deadlines) == len(model)
        assert {item: due for item in made if (due := deadlines.due(item)) is not None} == model
        upcoming = deadlines.next()
        assert not model or (upcoming is not None and upcoming <= min(model.values()))


def test_a_pop_looks_at_no_more_entries_than_it_is_told_to() -> None:
    """Entries that are stale or whose item is due later count like any, and the next pop goes on behind them."""
    deadlines = Deadlines[Item]()
    extended, dropped, (due,) = items(deadlines, *[1.0] * 30), items(deadlines, *[2.0] * 10), items(deadlines, 3.0)
    for item in extended:
        deadlines.set(item, 100.0)
    for item in dropped:
        deadlines.drop(item)
    looked = []
    while (found := deadlines.pop(50.0, 16)) is None:
        looked.append(deadlines.looked)
    looked.append(deadlines.looked)
    assert found is due
    assert looked == [16, 16, 9]
    assert deadlines.pop(50.0) is None


def test_no_change_sweeps_more_than_a_few_entries() -> None:
    """With a hundred thousand items taken out one by one, each costs a few steps: never one that walks the whole heap."""
    deadlines = Deadlines[Item]()
    made = items(deadlines, *map(float, range(20_000)))
    before, most_moved = deadlines.entries, 0
    for item in made:
        deadlines.drop(item)
        most_moved, before = max(most_moved, before - deadlines.entries), deadlines.entries
    assert most_moved <= 8
    assert deadlines.entries <= most(deadlines)


def test_shortened_lease_leaves_no_trail() -> None:
    """A worker that extends its lease to ever earlier times does not fill the server's memory."""
    engine = make_engine()
    job = enqueue(engine)
    token = token_of(dequeue(engine, lease_seconds=40_000.0))
    for n in range(1_000):
        engine.extend(NOW, job.id, token, 39_999.0 - n)
    assert engine.lease_ends.entries <= most(engine.lease_ends)


def test_next_deadline_is_never_late() -> None:
    """Whatever is due next, run_at, expires_at or lease, next_deadline is not after it; with nothing due ever it is None."""
    engine = make_engine()
    assert engine.next_deadline() is None
    enqueue(engine, delay=50.0)
    assert engine.next_deadline() == NOW + 50.0
    enqueue(engine, delay=40.0, expires_in=30.0)
    assert engine.next_deadline() == NOW + 30.0
    enqueue(engine, queue="leased", expires_in=100.0)
    dequeue(engine, queue="leased", lease_seconds=20.0)
    assert engine.next_deadline() == NOW + 20.0
