"""Where the values of settings come from (flag, environment, `.env`, default, in that order), and the messages for invalid ones.

The settings themselves are the table in settings.py. `python -m jobqueue.process.config` prints the tables of docs/operations.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from dotenv.parser import Binding, parse_stream

from jobqueue.api.access.origins import is_loopback
from jobqueue.limits import Limits
from jobqueue.process.settings import CLIENT_VARIABLES, FIXED, GROUPS, PREFIX, SETTINGS, BadSetting, Setting, Settings
from jobqueue.process.units import STORE, TOKEN

__all__ = [
    "CLIENT_VARIABLES",
    "FIXED",
    "GROUPS",
    "PREFIX",
    "SETTINGS",
    "BadSetting",
    "Setting",
    "Settings",
    "load",
    "markdown",
    "read_dotenv",
]


OWNER_LEASE_SECONDS_MIN = 2.0
"""An owner gives up a second before its lease ends, and renews the lease after a third of it."""

PEER_SECRET_CHARS_MIN = 16

PROCESSES_MAX = 64
PORT_MAX = 65_535


# Where values come from.


def load(flags: Mapping[str, str | None], environ: Mapping[str, str], dotenv: Path, without: Collection[str] = ()) -> Settings:
    """The settings, by name: from `flags` (None if not given), then `environ`, then the file `dotenv`, then the defaults. Raises
    BadSetting.

    without: settings that keep their defaults, wherever they are given.
    """
    lines = read_dotenv(dotenv)
    plain: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    origins = {setting.field: f"the default of {setting.flag}" for setting in SETTINGS}
    for setting in SETTINGS:
        if setting.name in without:
            continue
        flag = flags.get(setting.name)
        if flag is not None:
            origin, text = setting.flag, flag
        elif setting.variable in environ:
            origin, text = f"{setting.variable} in the environment", environ[setting.variable]
        elif setting.variable in lines:
            origin, text = lines[setting.variable]
        else:
            continue
        origins[setting.field] = origin
        try:
            (bounds if setting.bounds else plain)[setting.field] = setting.read(text)
        except ValueError as reason:
            shown = "" if setting.kind in (TOKEN, STORE) else f"{text[:80]!r} "
            raise BadSetting(f"{origin}: {shown}{reason}") from None
    try:
        limits = Limits(**bounds)
    except ValueError as contradiction:
        raise BadSetting(re.sub(r"\w+", lambda word: origins.get(word[0], word[0]), str(contradiction))) from None
    settings = Settings(limits=limits, **plain)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        given, missing = ("tls_cert", "--tls-key") if settings.tls_key is None else ("tls_key", "--tls-cert")
        raise BadSetting(f"{origins[given]}: needs {missing} too")
    _check_exposure(settings)
    if settings.store is not None:
        _check_peers(settings, origins)
    elif settings.partitions not in (None, 1):
        raise BadSetting(f"{origins['partitions']}: only a store has partitions; set --store too")
    if settings.processes > 1:
        _check_processes(settings, origins)
    return settings


def read_dotenv(path: Path) -> dict[str, tuple[str, str]]:
    """The settings in a `.env` file, by variable: origin and text. Variables are not expanded. Raises BadSetting."""
    found: dict[str, tuple[str, str]] = {}
    variables = {setting.variable for setting in SETTINGS} | CLIENT_VARIABLES
    for number, line in _bindings(path):
        origin = f"{path.name}, line {number}"
        if line.key is None or line.error:
            if PREFIX in line.original.string and not line.original.string.lstrip().startswith("#"):
                raise BadSetting(f"{origin}: cannot be read; write NAME=value")
        elif line.key in variables:
            if line.value is None:
                raise BadSetting(f"{line.key} in {origin}: has no value; write {line.key}=value")
            found[line.key] = (f"{line.key} in {origin}", line.value)
        elif line.key.upper().startswith(PREFIX) and line.key not in CLIENT_VARIABLES:
            raise BadSetting(f"{origin}: {line.key} is not a setting; `jobqueue serve --help` lists them")
    return found


def _bindings(path: Path) -> Iterator[tuple[int, Binding]]:
    try:
        with path.open(encoding="utf-8") as stream:
            for line in parse_stream(stream):
                # A binding begins where the previous one ended, so it includes blank lines above it.
                text = line.original.string
                yield line.original.line + text[: len(text) - len(text.lstrip())].count("\n"), line
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path.name} cannot be read: {error}") from None


def _check_exposure(settings: Settings) -> None:
    if not settings.secured and not settings.allow_anonymous and not is_loopback(settings.host):
        raise BadSetting(
            f"refusing to listen on {settings.host} without a token, since other machines could then use this server. "
            "Set a token (JOBQUEUE_TOKEN=..., or --token-file), or set --allow-anonymous (JOBQUEUE_ALLOW_ANONYMOUS=true) "
            "if that is what you want."
        )


def _check_peers(settings: Settings, origins: Mapping[str, str]) -> None:
    if settings.data is not None:
        raise BadSetting(f"{origins['store']}: jobs are kept either in a store or in a file, but {origins['data']} names a file")
    if settings.owner_lease_seconds < OWNER_LEASE_SECONDS_MIN:
        raise BadSetting(f"{origins['owner_lease_seconds']}: must be {OWNER_LEASE_SECONDS_MIN:g}s or more")
    certificates = {name: getattr(settings, name) for name in ("peer_cert", "peer_key", "peer_ca")}
    given = [name for name, value in certificates.items() if value is not None]
    missing = [f"--{name.replace('_', '-')}" for name in certificates if name not in given]
    if given and missing:
        raise BadSetting(f"{origins[given[0]]}: needs {' and '.join(missing)} too")
    if settings.peer_secret is None:
        if not given and not is_loopback(settings.peer_host):
            raise BadSetting(
                f"refusing to listen on {settings.peer_host} for other servers without a secret or certificates, since anyone could then "
                "use these queues. Set the same JOBQUEUE_PEER_SECRET on all of them, or --peer-cert, --peer-key and --peer-ca, or both."
            )
    elif len(settings.peer_secret) < PEER_SECRET_CHARS_MIN:
        raise BadSetting(f"{origins['peer_secret']}: must have {PEER_SECRET_CHARS_MIN} characters or more")
    if settings.peer_address is None and settings.peer_host in ("0.0.0.0", "::"):
        raise BadSetting(f"{origins['peer_host']}: other servers cannot reach this one at {settings.peer_host}; set --peer-address too")


def _check_processes(settings: Settings, origins: Mapping[str, str]) -> None:
    if settings.store is None:
        raise BadSetting(f"{origins['processes']}: several processes share their jobs through a store; set --store too")
    if settings.processes > PROCESSES_MAX:
        raise BadSetting(f"{origins['processes']}: must be {PROCESSES_MAX} or fewer")
    last = settings.peer_port + settings.processes - 1
    if settings.peer_port and last > PORT_MAX:
        raise BadSetting(
            f"{origins['peer_port']}: {settings.processes} processes need as many ports, starting with this one; choose a lower port"
        )
    if settings.peer_port and settings.peer_port <= settings.port <= last:
        raise BadSetting(
            f"{origins['peer_port']}: {settings.processes} processes use the ports from this one to {last}, but the port for "
            f"clients is one of them ({origins['port']})"
        )


# The docs.


def markdown() -> str:
    """The tables of docs/operations.md."""
    parts = []
    for title, group in GROUPS.items():
        rows = [f"| `{s.flag}` | `{s.variable}` | {s.default} | {s.help} | {s.beyond or '–'} |" for s in group]
        parts.append("\n".join((f"### {title}", "", "| flag | variable | default | what | beyond it |", "|---|---|---|---|---|", *rows)))
    rows = [f"| {getattr(Limits(), field)} | {what} |" for field, what in FIXED.items()]
    parts.append("\n".join(("### Fixed", "", "| bound | what |", "|---|---|", *rows)))
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(markdown())
