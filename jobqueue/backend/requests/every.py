"""The list of all requests: these can come from another server."""

from __future__ import annotations

from typing import Any

from jobqueue.backend.requests.amend import AMEND
from jobqueue.backend.requests.bulk import BULK
from jobqueue.backend.requests.claims import CLAIMS
from jobqueue.backend.requests.errors import ERRORS
from jobqueue.backend.requests.groups import GROUPS
from jobqueue.backend.requests.logs import LOGS
from jobqueue.backend.requests.moves import MOVES
from jobqueue.backend.requests.queues import QUEUES
from jobqueue.backend.requests.request import Request
from jobqueue.backend.requests.samples import SAMPLES
from jobqueue.backend.requests.schedules import SCHEDULES
from jobqueue.backend.requests.scouting import SCOUTING
from jobqueue.backend.requests.shares import SHARES
from jobqueue.backend.requests.tasks import TASKS
from jobqueue.backend.requests.workers import WORKERS

ALL: tuple[type[Request[Any]], ...] = (
    *(*AMEND, *BULK, *QUEUES, *GROUPS, *SCHEDULES, *LOGS, *ERRORS, *TASKS, *WORKERS, *SAMPLES),
    *(*SCOUTING, *SHARES, *MOVES, *CLAIMS),
)
