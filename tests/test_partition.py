"""Which partition a queue, an id and a number belong to."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.client.calls import enqueue, enqueue_batch
from jobqueue.client.types import NewJob
from jobqueue.ids import Ids
from jobqueue.partition import ALONE, PARTITIONS_MAX, Place, crc16, home_of, partition_of, partition_of_number
from tests.factories import NOW, entropy


def test_crc16_is_valkeys() -> None:
    """The check value and the key slots that Valkey publishes in its cluster specification and documentation."""
    assert crc16(b"123456789") == 0x31C3
    slots = {b"somekey": 11058, b"foo": 12182, b"bar": 5061, b"hello": 866, b"": 0}
    assert {key: crc16(key) % 16_384 for key in slots} == slots


def test_queues_with_the_same_beginning_share_a_partition() -> None:
    """Only what comes before the first colon counts; a name without one counts as a whole."""
    for count in (1, 2, 3, 16, PARTITIONS_MAX):
        mail = partition_of("mail", count)
        assert mail == crc16(b"mail") % 16_384 % count
        assert {partition_of(name, count) for name in ("mail", "mail:dead", "mail:high:2", "mail:")} == {mail}
    assert partition_of("mail.dead", 16) != partition_of("mail", 16)


def test_one_partition_is_the_place_of_everything() -> None:
    """With one partition, every queue, id and number is in partition 0."""
    assert Place() == ALONE == Place(0, 1)
    assert {partition_of("a:b", 1), home_of("mine", 1), home_of(Ids().job_id(NOW), 1), partition_of_number(7, 1)} == {0}


@given(st.integers(1, PARTITIONS_MAX), st.data(), st.integers(0, 100))
def test_ids_that_we_make_are_at_home_where_they_were_made(count: int, data: st.DataObject, seed: int) -> None:
    """Every partition makes well-formed, rising ids whose home it is."""
    place = Place(data.draw(st.integers(0, count - 1)), count)
    ids = Ids(entropy(seed), place)
    made = [ids.job_id(NOW) for _ in range(300)]
    assert {home_of(text, count) for text in made} == {place.index}
    assert made == sorted(set(made))
    parsed = [uuid.UUID(text) for text in made]
    assert {(one.version, one.variant) for one in parsed} == {(7, uuid.RFC_4122)}


@given(st.integers(1, PARTITIONS_MAX), st.text("abc.:-", min_size=1))
def test_ids_that_our_clients_make_are_at_home_with_their_queue(count: int, queue: str) -> None:
    """However many partitions there are, so that no partition need be asked about another's ids; each is a well-formed id of its own."""
    new = NewJob(None, queue=queue)
    ids = [text for call in (enqueue(new), enqueue(new), enqueue_batch([new, new])) for text in call.ids]
    assert {home_of(text, count) for text in ids} == {partition_of(queue, count)}
    assert {(uuid.UUID(text).version, uuid.UUID(text).variant, len(text)) for text in ids} == {(7, uuid.RFC_4122, 36)}
    assert len(set(ids)) == 4


@pytest.mark.parametrize("count", [1, 3, 100, PARTITIONS_MAX])
def test_the_extremes_of_the_random_bits_stay_in_the_id(count: int) -> None:
    """Fourteen bits of all ones or all zeros become bits of the right partition, without a carry into the variant."""
    for byte in (0x00, 0xFF):
        for index in (0, count // 2, count - 1):
            ids = Ids(lambda size, byte=byte: bytes([byte]) * size, Place(index, count))  # type: ignore[misc]
            text = ids.job_id(NOW)
            assert home_of(text, count) == index
            assert uuid.UUID(text).variant == uuid.RFC_4122


def test_bits_for_a_partition_stay_random() -> None:
    """With 3 partitions, thousands of different values of the fourteen bits occur."""
    ids = Ids(entropy(), Place(1, 3))
    assert len({ids.job_id(NOW)[19:23] for _ in range(10_000)}) > 3_000


@pytest.mark.parametrize(
    "text",
    [
        "0190163d-8694-739b-aea5-966c26f8ad9",
        "0190163D-8694-739B-AEA5-966C26F8AD91",
        "0190163d-8694-439b-aea5-966c26f8ad91",
        "0190163d-8694-739b-cea5-966c26f8ad91",
        "0190163d_8694-739b-aea5-966c26f8ad91",
        "0190163d-8694-739b-aea5-966c26f8ad9\n",
        "order-1001",
        "ü",
        "",
    ],
)
def test_any_other_text_is_hashed(text: str) -> None:
    """An id that is no canonical UUID of version 7 has the home that its CRC names."""
    assert home_of(text, 16) == crc16(text.encode()) % 16


def test_a_uuid_of_version_7_is_not_hashed() -> None:
    """A canonical UUID of version 7, whoever made it, has the home that its bits name."""
    assert home_of("0190163d-8694-739b-aea5-966c26f8ad91", 16) == 0x2EA5 % 16


def test_homes_are_spread_evenly() -> None:
    """Ten thousand ids of clients have all partitions as homes, none of them twice as often as it should be."""
    homes = Counter(home_of(f"order-{n}", 16) for n in range(10_000))
    assert len(homes) == 16
    assert max(homes.values()) < 2 * 10_000 / 16


@given(st.integers(1, PARTITIONS_MAX), st.integers(1, 10_000))
def test_the_next_number_of_a_partition(count: int, least: int) -> None:
    """It is the least that is not below the given one and belongs to the partition."""
    for index in {0, count // 2, count - 1}:
        number = Place(index, count).number_from(least)
        assert least <= number < least + count
        assert partition_of_number(number, count) == index
