"""What two processes say to each other: software once, then by its number."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from small_runs import ALPHA, BETA, run, runs, software

from lab.runner import protocol
from lab.runner.protocol import Pipe, Question


class Ends:
    """Both ends of a pipe, and how many bytes each has written."""

    def __init__(self) -> None:
        self.there, self.back = BytesIO(), BytesIO()
        self.asker = Pipe(self.there, self.back, asks=True)
        self.worker = Pipe(self.back, self.there, asks=False)

    def ask(self, value: object) -> object:
        """Hand a value to the worker; return what it got."""
        return self._over(self.there, self.asker, self.worker, value)

    def answer(self, value: object) -> object:
        """Hand a value to the asker; return what it got."""
        return self._over(self.back, self.worker, self.asker, value)

    def _over(self, stream: BytesIO, sender: Pipe, receiver: Pipe, value: object) -> object:
        start = stream.tell()
        sender.send(value)
        self.written = stream.tell() - start
        stream.seek(start)
        return receiver.receive()


QUESTION = Question(tuple(one.experiment for one in runs()), "verdicts")


def test_what_arrives_is_what_was_sent() -> None:
    """In both directions, again and again."""
    ends = Ends()
    made = run(QUESTION.experiments[-1], cleared=True)
    for _ in range(3):
        assert ends.ask(QUESTION) == QUESTION
        assert ends.answer(made) == made


def test_software_is_told_once() -> None:
    """The second question names it, and so do the answers: no text travels again."""
    ends = Ends()
    text = ALPHA.rulesets[0].text.encode()
    first = ends.ask(QUESTION)
    assert text in ends.there.getvalue()
    size = ends.written
    second = ends.ask(QUESTION)
    assert ends.written < size / 2
    assert isinstance(first, Question)
    assert isinstance(second, Question)
    assert first.experiments[0].software[0] is second.experiments[0].software[0]
    back = ends.answer(first.experiments)
    assert text not in ends.back.getvalue()
    assert isinstance(back, tuple)
    assert back[0].software[0] is QUESTION.experiments[0].software[0]


def test_the_worker_hands_over_what_it_was_not_told() -> None:
    """Software that it made itself has no number."""
    ends = Ends()
    ends.ask(QUESTION)
    assert ends.answer((BETA, software("gamma"))) == (BETA, software("gamma"))


def test_what_is_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long session with ever other software does not fill the memory."""
    monkeypatch.setattr(protocol, "_MOST_TOLD", 2)
    ends = Ends()
    many = [replace(ALPHA, release=str(number)) for number in range(5)]
    assert ends.ask(many) == many
    assert ends.ask(many) == many


def test_the_end_of_the_input_is_told() -> None:
    """Nobody is there any more, or only half a message is."""
    with pytest.raises(EOFError):
        Pipe(BytesIO(), BytesIO(), asks=False).receive()
