"""Job ids and lease tokens."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.ids import Ids
from tests.factories import NOW, entropy


def constant(byte: int) -> Ids:
    return Ids(lambda count: bytes([byte]) * count)


def test_job_id_is_a_version_7_uuid_of_its_time() -> None:
    """48 bits of Unix milliseconds, version 7, variant 10, in the canonical lower-case text (RFC 9562, section 5.7)."""
    ids = Ids(entropy())
    for now in (0.001, 1_645_557_742.0, NOW, NOW + 0.9994, 281_474_976_710.0):
        text = ids.job_id(now)
        assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text)
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert parsed.int >> 80 == int(now * 1_000)


def test_every_random_bit_is_drawn_from_entropy() -> None:
    """The 62 bits after the variant are all ones from a source of ones and all zeros from a source of zeros."""
    mask = (1 << 62) - 1
    assert uuid.UUID(constant(0xFF).job_id(NOW)).int & mask == mask
    assert uuid.UUID(constant(0x00).job_id(NOW)).int & mask == 0


def test_random_bits_do_not_repeat_each_other() -> None:
    """No two of the 62 random bits are the same bit twice: over a thousand ids no pair of them always agrees."""
    ids = Ids(entropy())
    numbers = [uuid.UUID(ids.job_id(NOW)).int for _ in range(1_000)]
    columns = [tuple(number >> bit & 1 for number in numbers) for bit in range(62)]
    assert len(set(columns)) == 62


def test_ids_of_one_millisecond_sort_in_order_of_creation_through_counter_overflow() -> None:
    """Ten thousand ids of one moment, more than the counter holds, are unique and sorted as text."""
    ids = Ids(entropy())
    made = [ids.job_id(NOW) for _ in range(10_000)]
    assert made == sorted(set(made))
    assert uuid.UUID(made[-1]).int >> 80 > int(NOW * 1_000)
    following = ids.job_id(NOW + 0.001)
    assert following > made[-1]
    assert ids.job_id(NOW + 1.0) > following


def test_counter_leaves_room_for_two_thousand_ids_in_a_millisecond() -> None:
    """Even when the counter starts at its highest, 2,048 ids share their true millisecond."""
    ids = constant(0xFF)
    made = [uuid.UUID(ids.job_id(NOW)).int >> 80 for _ in range(2_048)]
    assert set(made) == {int(NOW * 1_000)}


@pytest.mark.parametrize("now", [0.0, 0.0005])
def test_time_may_begin_at_zero(now: float) -> None:
    """A simulation whose clock starts at nothing gets well-formed, rising ids too."""
    ids = Ids(entropy())
    made = [ids.job_id(now) for _ in range(3)]
    assert [uuid.UUID(text).version for text in made] == [7, 7, 7]
    assert made == sorted(set(made))


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0.0, 0.01), st.floats(-5.0, 5.0)), min_size=2, max_size=50), st.integers(0, 100))
def test_ids_rise_whatever_time_does(steps: list[float], seed: int) -> None:
    """Time that stands still or runs back does not make an id smaller than the one before."""
    ids, now, made = Ids(entropy(seed)), NOW, list[str]()
    for step in steps:
        now += step
        made.append(ids.job_id(now))
    assert made == sorted(set(made))


def test_token_has_128_bits_from_entropy() -> None:
    """32 hexadecimal digits, every bit of them from the source, none used twice."""
    assert constant(0xFF).token() == "f" * 32
    assert constant(0x00).token() == "0" * 32
    asked = list[bytes]()

    def source(count: int) -> bytes:
        asked.append(bytes((len(asked) + n) % 251 for n in range(count)))
        return asked[-1]

    ids = Ids(source)
    tokens = [ids.token() for _ in range(1_000)]
    stream = b"".join(asked).hex()
    assert "".join(tokens) == stream[: 32 * 1_000]


def test_tokens_do_not_repeat() -> None:
    """Ten thousand tokens of one source differ, ids drawn in between."""
    ids = Ids(entropy())
    tokens = {(ids.token(), ids.job_id(NOW))[0] for _ in range(10_000)}
    assert len(tokens) == 10_000


@pytest.mark.parametrize("make", [Ids.token, lambda ids: ids.job_id(NOW)], ids=["token", "job id"])
def test_same_entropy_same_ids_and_real_entropy_other_ones(make) -> None:  # type: ignore[no-untyped-def]
    """Seeded entropy repeats itself; the default is the operating system's and does not."""
    one, two = Ids(entropy(5)), Ids(entropy(5))
    assert [make(one) for _ in range(500)] == [make(two) for _ in range(500)]
    assert make(Ids(entropy(5))) != make(Ids(entropy(6)))
    assert make(Ids()) != make(Ids())
