"""Handlers by name: the decorator, the registry, how a job's payload is passed to a handler's parameters, and how handlers are found in a
module.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import pickle
import sys
import traceback
import typing
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

import msgspec
import msgspec.inspect as inspect_types

from jobqueue.worker.endings import Discard
from jobqueue.worker.options import SECONDS_MAX, within
from jobqueue.worker.running import RunningJob

F = TypeVar("F", bound=Callable[..., Any])
Executor = Literal["thread", "process"]
TIMEOUT_SECONDS_MIN = 0.001
ANY: Final = "*"
"""The name of the handler for jobs that no other handler takes, including those without a type."""

_plain = msgspec.json.Decoder().decode


class HandlersError(Exception):
    """Handlers could not be loaded; str() gives the reason."""


class Handler:
    """One function that handles jobs of one type. Raises TypeError for a function that cannot be a handler.

    function: takes one or two positional parameters. A parameter annotated RunningJob or RunningJob[Mail], or not annotated, receives the
    job; a parameter with another annotation receives the payload as that type. timeout: seconds allowed for an attempt, None for the
    worker's default. executor: where a plain function runs, "thread" (the default) or "process"; an async function runs on the event loop.
    """

    def __init__(self, name: str, function: Callable[..., Any], timeout: float | None = None, executor: Executor | None = None) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name: {name!r} is not a name; write @handler('name'), or @handler() for every job without another handler")
        if not name:
            raise ValueError("name: a handler's name must not be empty; '*' stands for all other types")
        if timeout is not None:
            timeout = within("timeout", timeout, TIMEOUT_SECONDS_MIN, SECONDS_MAX)
        if executor not in (None, "thread", "process"):
            raise ValueError(f"executor: {executor!r} is neither 'thread' nor 'process'")
        self.name = name
        self.function = function
        self.timeout = timeout
        self.is_async = any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004
        self.executor: Literal["loop", "thread", "process"] = "loop" if self.is_async else (executor or "thread")
        if self.is_async and executor is not None:
            raise TypeError(f"executor: handler {name!r} is async, so it runs on the loop; make it a plain function for a {executor}")
        if (wrong := _unfit(function)) is not None:
            raise TypeError(f"handler {name!r}: {wrong}")
        if self.executor == "process" and "<" in getattr(function, "__qualname__", "<"):
            # <lambda>, <locals>, and objects that have no name at all.
            raise TypeError(
                f"handler {name!r}: a handler for a process is found by its name, so it must be a function at the top level of a "
                "module, not a lambda, a nested function or a partial"
            )
        self._takes, self.read = _parameters(name, function)
        self.direct: Callable[[RunningJob[Any]], Any] | None = function if self._takes == _JOB and self.read is _plain else None
        """The function, if `call` would only call it with the job."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Handler, (self.name, self.function, self.timeout, "process" if self.executor == "process" else None))

    def check_sent(self) -> None:
        """Raises HandlersError if it runs in a process and cannot be sent there. Call it once the handler's module is loaded: a decorator
        runs before its function has its name.
        """
        if self.executor == "process":
            try:
                pickle.dumps(self)
            except Exception as error:
                raise HandlersError(f"handler {self.name!r} cannot be sent to a process: {error}") from error

    def call(self, job: RunningJob[Any]) -> Any:
        """Call the function. Raises Discard if the payload does not have the annotated type, since a retry would not change that."""
        if self.read is not _plain:
            try:
                job.payload  # noqa: B018 # read here, and cached
            except msgspec.ValidationError as error:
                raise Discard from error
        if self._takes == _JOB:
            return self.function(job)
        if self._takes == _PAYLOAD:
            return self.function(job.payload)
        return self.function(*(job if takes == "j" else job.payload for takes in self._takes))


_JOB, _PAYLOAD = "j", "p"


def _unfit(function: Any) -> str | None:
    """Why this cannot be a handler, whatever its parameters are; None if it can."""
    if inspect.isclass(function):
        return f"{function.__qualname__} is a class; register a function, or a callable object"
    if not callable(function):
        return f"{function!r} cannot be called"
    while isinstance(function, functools.partial):
        function = function.func
    for called in (function, getattr(function, "__call__", None)):  # noqa: B004
        if inspect.isasyncgenfunction(called) or (inspect.isgeneratorfunction(called) and not _is_coroutine(called)):
            return "it is a generator, so calling it would not run it; a handler must return its result"
    return None


def _is_coroutine(function: Any) -> bool:
    """Whether a generator function can be awaited because of types.coroutine."""
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE)


def _parameters(name: str, function: Callable[..., Any]) -> tuple[str, Callable[[bytes], Any]]:
    """The function's parameters, one letter each, and a decoder for the payload."""
    try:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    except ValueError as error:
        raise TypeError(f"handler {name!r}: its parameters cannot be read: {error}") from None
    except Exception as error:
        # Annotations written as strings are code, which can raise anything.
        raise TypeError(f"handler {name!r}: an annotation cannot be read: {type(error).__name__}: {error}") from None
    if parameters and inspect.isfunction(function) and parameters[0].name in ("self", "cls") and _stands_in_a_class(function):
        raise TypeError(f"handler {name!r} is an unbound method; register the method of an object, or a function")
    needed = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) and parameter.default is parameter.empty
    ]
    if len(needed) not in (1, 2) or any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        signature = inspect.signature(function)
        hint = "; if that is a decorator's, it lacks functools.wraps" if any(p.kind is p.VAR_POSITIONAL for p in parameters) else ""
        raise TypeError(f"handler {name!r} must take the job, its payload or both, not {signature}{hint}")
    takes = ""
    kind: Any = None
    for parameter in needed:
        annotation = parameter.annotation
        is_noted = typing.get_origin(annotation) is typing.Annotated
        plain = typing.get_args(annotation)[0] if is_noted else annotation
        if annotation is parameter.empty or plain is RunningJob:
            takes += _JOB
        elif typing.get_origin(plain) is RunningJob:
            takes += _JOB
            kind = typing.get_args(plain)[0]
        else:
            takes += _PAYLOAD
            kind = annotation
    if takes in ("jj", "pp"):
        raise TypeError(f"handler {name!r} takes {'the job' if takes == 'jj' else 'a payload'} twice; annotate one parameter as the other")
    if kind is None or isinstance(kind, TypeVar):
        return takes, _plain
    try:
        read = msgspec.json.Decoder(kind).decode
    except TypeError as error:
        raise TypeError(f"handler {name!r}: a payload cannot be read as {kind!r}: {error}") from None
    if (never := _never_read(kind)) is not None:
        job = "; the job's own parameter is annotated RunningJob, and nothing else beside it" if issubclass(never, RunningJob) else ""
        raise TypeError(f"handler {name!r}: a payload cannot be read as {kind!r}: no JSON is a {never.__name__}{job}")
    return takes, read


_JSON_VALUES: Final[tuple[Any, ...]] = ({}, [], "", 0, 0.5, True, None)


def _never_read(kind: Any) -> type | None:
    """A class that every payload of this type would have to contain and that is never decoded: msgspec only checks whether a decoded value
    is an instance.
    """
    found = inspect_types.type_info(kind)
    if isinstance(found, inspect_types.UnionType):
        # A handler is for more than null. Nested types can legitimately be null.
        found = next((one for one in found.types if isinstance(one, inspect_types.CustomType)), found)
    seen: list[Any] = []

    def never(found: Any) -> type | None:
        if isinstance(found, inspect_types.CustomType):
            with contextlib.suppress(TypeError):  # not a class that can be used here
                return None if any(isinstance(value, found.cls) for value in _JSON_VALUES) else found.cls
        if any(one is found for one in seen):
            return None
        seen.append(found)
        fields = getattr(found, "fields", ())
        return next(filter(None, (never(field.type) for field in fields if field.required)), None)

    return never(found)


def _stands_in_a_class(function: Any) -> bool:
    scope = function.__qualname__.rpartition(".")[0]
    return bool(scope) and not scope.endswith("<locals>")


class Registry:
    """Handlers by the type of job that they handle. queues: the queues that its worker was created for, None if none were named."""

    def __init__(self, queues: tuple[str, ...] | None = None) -> None:
        self.queues = queues
        self._handlers: dict[str, Handler] = {}

    def __len__(self) -> int:
        return len(self._handlers)

    @property
    def names(self) -> list[str]:
        """The types that have handlers; '*' stands for the handler of all other types."""
        return sorted(self._handlers)

    def handler(self, name: str | None = None, *, timeout: float | None = None, executor: Executor | None = None) -> Callable[[F], F]:
        """A decorator that registers a function for jobs of type `name`; None or '*' stands for jobs that no other handler takes.

        See Handler for the parameters. Raises ValueError if there is a handler with this name already.
        """

        if callable(name):
            Handler(name, name)  # raises the right error

        def register(function: F) -> F:
            made = Handler(ANY if name is None else name, function, timeout, executor)
            if made.name in self._handlers:
                raise ValueError(f"name: there is a handler for {made.name!r} already")
            self._handlers[made.name] = made
            return function

        return register

    def check_sent(self) -> None:
        """Raises HandlersError for a handler that cannot be sent to a process; see Handler.check_sent."""
        for handler in self._handlers.values():
            handler.check_sent()

    def find(self, job_type: str | None) -> Handler | None:
        """The handler for jobs of this type, None if there is none."""
        found = None if job_type is None else self._handlers.get(job_type)
        return found or self._handlers.get(ANY)


HANDLERS: Final = Registry()
"""What `jobqueue.handler` registers."""

handler = HANDLERS.handler


def _import(name: str) -> Any:
    # Like other servers that take a module name: modules in the current folder can be named.
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise HandlersError(f"{name} cannot be imported: {_where(error)}{type(error).__name__}: {_what(error)}") from error


def _where(error: Exception) -> str:
    """The file and line where an import failed, as "FILE, line N: "; empty if the module does not exist."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}: "
    # The frames of the code that raised, without the import machinery and this file.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)[1:] if not frame.filename.startswith("<frozen ")]
    frames = [frame for frame in frames if frame.filename != importlib.__file__]
    return f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""


def _what(error: Exception) -> str:
    """The error's text. For a SyntaxError without the location, which is shown before it."""
    return error.msg if isinstance(error, SyntaxError) else str(error)


def load_handlers(name: str) -> Registry:
    """The handlers of "package.module" or "package.module:attribute".

    The attribute, or by default the module's `worker`, is a Worker or a Registry. A module without a `worker` is assumed to have registered
    its functions with `jobqueue.handler`. The current folder is searched too. Raises HandlersError.
    """
    path, colon, attribute = name.partition(":")
    if not path or (colon and not attribute):
        raise HandlersError(f"{name!r} is not a module; write package.module or package.module:attribute")
    module = _import(path)
    found: Any = module
    for part in (attribute or "worker").split("."):
        found = getattr(found, part, None)
    registry = found if isinstance(found, Registry) else getattr(found, "handlers", None)
    if not isinstance(registry, Registry):
        if attribute:
            raise HandlersError(f"{path} has no Worker or Registry named {attribute}")
        registry = HANDLERS
    if not len(registry):
        raise HandlersError(f"{name} has no handlers; decorate functions with @jobqueue.handler('name') or with a worker's @worker.handler")
    registry.check_sent()
    return registry
