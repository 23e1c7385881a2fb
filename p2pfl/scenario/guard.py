"""No orphan, ever: a tiny process that ends a process group once whoever started it is gone.

The guard leads a process group of its own and reads from a pipe whose other end only we hold.
Every child we start joins that group before its program begins. When the pipe ends, because we
closed it or because we died in whatever way (SIGKILL included), the guard kills the whole group,
itself last. That also works for children that are stopped (SIGSTOP), needs no list of process ids
that could be out of date, and leaves no gap: a child that comes too late finds no group to join,
and then its program never begins.

Rule of the file: run as a script it uses the standard library only, so that it starts at once.
Ctrl-C in a terminal goes to the foreground group, hence to us and not to the children: we stop
them in order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

_READY = b"."
_ENDING_S = 2.0


class Guard:
    """Starts processes that cannot outlive us; POSIX only."""

    def __init__(self) -> None:
        """Start the guard and wait until it ignores what would end it early."""
        self._process = subprocess.Popen(  # noqa: S603 (our own file)
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self._process.stdout is not None
        self._process.stdout.read(len(_READY))

    def start(
        self, command: Sequence[str], *, out: IO[bytes], errors: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process in the guarded group.

        Args:
            command: program and arguments; no shell.
            out: where its output goes.
            errors: where its complaints go, the same place if None.

        Raises:
            OSError: it cannot be started.
        """
        return subprocess.Popen(  # noqa: S603 (a list of arguments, no shell)
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if errors is None else errors,
            process_group=self._process.pid,
        )

    def close(self) -> None:
        """Kill whatever is left of the group, and the guard; closing twice does nothing."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _watch() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTIN, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    sys.stdin.buffer.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    _watch()
