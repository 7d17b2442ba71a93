"""Ctrl-C and SIGTERM end a long job at the next safe point, with exit code 130 or 143."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Interrupted", "Interruption"]

T = TypeVar("T")


class Interrupted(SystemExit):
    """The job was asked to stop and did so at a point it can resume from.

    A `SystemExit`: uncaught, it ends the process with 130 (Ctrl-C) or 143 (SIGTERM), and ``except Exception``
    does not swallow it. ``str()`` gives the text for the user.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(128 + signal_number)
        self.signal_number, self.message = signal_number, message

    def __str__(self) -> str:
        """Show the message instead of the exit code."""
        return self.message


class _Leave(BaseException):
    """Raised by the signal handler while `Interruption.attempt` works.

    No `Exception`: a reader that turns whatever its library throws into a damaged file must let it pass.
    """


class Interruption:
    """Watch for SIGINT and SIGTERM while the block runs.

    The first signal is remembered in `signal_number`; work goes on until the job looks at it. A second signal
    acts as it would without this class. Outside the main thread Python delivers no signals; none is watched.

    Examples
    --------
    >>> with Interruption() as interruption:
    ...     for step in range(3):
    ...         if interruption.signal_number:
    ...             break
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._may_leave = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the earlier handlers back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()
        if self._may_leave:
            self._may_leave = False
            raise _Leave

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Do `work`, which must change nothing worth keeping; a signal, also an earlier one, ends it at once.

        Returns
        -------
        The result of `work`, or None when a signal ended it.
        """
        if self.signal_number:
            return None
        try:
            self._may_leave = True
            return work()
        except _Leave:
            return None
        finally:
            self._may_leave = False
