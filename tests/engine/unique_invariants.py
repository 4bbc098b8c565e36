"""What is always true of unique keys, and a picture of them."""

from __future__ import annotations

from typing import Any

import msgspec

from jobqueue.engine.engine import Engine
from jobqueue.model import CONCLUDED


def unique_fingerprint(engine: Engine) -> dict[str, Any]:
    """Who holds and who waits for which key, and for how long."""
    uniques = engine.uniques
    return {
        "holders": {place: job.id for place, job in uniques.holders.items()},
        "followers": {place: job.id for place, job in uniques.followers.items()},
        "windows": {place: msgspec.structs.asdict(window) for place, window in uniques.windows.items()},
    }


def unique_invariants(engine: Engine) -> None:
    """Assert that what is counted is what jobs say, and that nobody waits for nothing."""
    uniques = engine.uniques
    holders, followers, windows = {}, {}, {}
    for job in engine.jobs.all():
        claim = job.details.extra.claim
        if claim is None:
            continue
        place = job.queue, claim.unique.key
        if job.status is not CONCLUDED:
            if claim.state == "holds":
                assert holders.setdefault(place, job) is job, "one job holds a key"
            elif claim.state == "waits":
                assert followers.setdefault(place, job) is job, "one job waits for a key"
                assert job.held_back
        if claim.until is not None and claim.until > windows.get(place, 0.0):
            windows[place] = claim.until
    assert uniques.holders == holders
    assert uniques.followers == followers
    assert followers.keys() <= {*holders, *uniques.windows}, "nobody waits for what is not there"
    for place, window in uniques.windows.items():
        assert window.place == place
        assert engine.deadlines.due(window) == window.ends_at
        assert window.stored or windows[place] == window.ends_at, "what no job says has a row of its own"
