"""How deep a job has to be in its queue to be packed (jobqueue/engine/packs.py): the one place where tests choose.

JOBQUEUE_TEST_PACKING=tiny chooses for a whole run: then two waiting jobs are a pack, wherever they are in their queue. Tests that hold an
engine's own jobs are not for that run: a job that was packed and is used again is another object.
"""

from __future__ import annotations

import os

from jobqueue.engine import catalogue
from jobqueue.engine.packs import Packing

TINY = Packing(size=2, deep=0, behind=0)


def install() -> None:
    """Pack as the environment says."""
    if os.environ.get("JOBQUEUE_TEST_PACKING") == "tiny":
        catalogue.PACKING = TINY
