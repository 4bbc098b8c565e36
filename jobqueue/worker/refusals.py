"""What the worker logs when a server gives no jobs: whether nobody answers, or what was answered, and which answers end the worker."""

from __future__ import annotations

from jobqueue.errors import CallerError, Draining, Forbidden, Full, QueueError, StorageUnavailable, Unauthorized

REFUSED_EXIT = 6
"""The exit code of a worker whose token or URL is wrong: restarting it does not help."""

_MAY_PASS = (408, 425, 429)
"""Statuses below 500 that proxies return for temporary problems."""


def is_elsewhere(error: BaseException) -> bool:
    """Whether the answer did not come from a jobqueue server: a wrong path, or another program's port."""
    status = getattr(error, "status", None)
    return isinstance(status, int) and getattr(error, "code", "") == "unexpected_answer" and status < 500 and status not in _MAY_PASS


def is_refusal(error: BaseException | None) -> bool:
    """Whether a worker that ended with this error exits with REFUSED_EXIT."""
    return error is not None and (isinstance(error, Unauthorized | Forbidden) or is_elsewhere(error))


def refused(error: QueueError) -> str:
    """What ended the worker, as one line."""
    if isinstance(error, Unauthorized):
        return f"the server does not accept the token: {error}; set another with --token or JOBQUEUE_TOKEN"
    if isinstance(error, Forbidden):
        return f"the server does not let this worker take jobs: {error}"
    if is_elsewhere(error):
        return f"no jobqueue server answers at this URL, check its host, port and path: {error}"
    return f"the server refuses to give this worker jobs: {error}"


def hindrance(error: Exception) -> tuple[str, str]:
    """Why calls currently fail, and the message to log when they no longer do."""
    code = getattr(error, "code", "")
    if code == "connection_failed":
        return "the server is away, trying again until it is back", "the server is back"
    if code == "storage_unavailable" or isinstance(error, StorageUnavailable):
        return "the server cannot store changes (its disk may be full), trying again until it can", "the server stores changes again"
    if isinstance(error, Draining):
        return "the server is shutting down, trying again until it is back", "the server is back"
    if isinstance(error, Full):
        return "the server is at one of its limits, trying again until there is room", "the server has room again"
    if is_elsewhere(error):
        return "something other than a jobqueue server answers, trying again until the server does", "the server is back"
    return "the server answers with an error, trying again until it works", "the server answers again"


def ends_it(error: QueueError, served: bool) -> bool:
    """Whether this answer to a request for jobs ends the worker. served: an earlier request was answered, so the URL is right."""
    return isinstance(error, CallerError) or (not served and is_elsewhere(error))
