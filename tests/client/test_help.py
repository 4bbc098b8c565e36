"""What help() says of the classes that users call: what they may use, how, and nothing else."""

from __future__ import annotations

import inspect
import pydoc
import re

import pytest

import jobqueue

CLASSES = [jobqueue.Worker, jobqueue.Client, jobqueue.AsyncClient]


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_begins_with_an_example(kind: type) -> None:
    """Its docstring shows how it is made and called before it lists parameters."""
    shown = inspect.getdoc(kind) or ""
    example = re.search(r"^    \S", shown, re.MULTILINE)
    listed = re.search(r"^(source|url): ", shown, re.MULTILINE)
    assert example is not None
    assert listed is not None
    assert example.start() < listed.start()
    assert f"{kind.__name__}(" in shown[: listed.start()]


@pytest.mark.parametrize("kind", CLASSES)
def test_everything_public_says_what_it_does(kind: type) -> None:
    """Every name that does not begin with an underscore has a docstring that stands for itself."""
    for name, found in inspect.getmembers(kind):
        if not name.startswith("_"):
            assert len(inspect.getdoc(found) or "") > 20, name
            assert not (inspect.getdoc(found) or "").startswith("See "), name


@pytest.mark.parametrize("kind", CLASSES)
def test_every_parameter_is_described(kind: type) -> None:
    """The docstring has each, by its name."""
    shown = inspect.getdoc(kind) or ""
    for name in inspect.signature(kind).parameters:
        assert re.search(rf"\b{name}\b[^.]*: ", shown), name


def test_a_worker_shows_no_machinery() -> None:
    """What help(Worker) lists is what a user calls, and its attributes are in the text."""
    public = {name for name, _ in inspect.getmembers(jobqueue.Worker) if not name.startswith("_")}
    assert public == {"broken", "finished", "handler", "run", "running", "start", "stop"}
    shown = pydoc.render_doc(jobqueue.Worker, renderer=pydoc.plaintext)
    worker = jobqueue.Worker()
    for name in vars(worker):
        assert name.startswith("_") or re.search(rf"\b{name}\b", shown), name
