"""Where the command line begins: one that is stopped by hand while it still loads ends with one line.

Loading takes seconds, most of them for torch, inside code that may swallow an interrupt or turn it into
another error. Nothing is written by then, so the process ends at once; after that Ctrl-C is a
KeyboardInterrupt as usual.
"""

import os
import signal
from importlib import import_module
from types import FrameType

STOPPED = 130
"""Status of a command that was stopped by hand."""


def start() -> None:
    """Load the command line and run it."""
    # Not where it is ignored, as by a job in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)
    import_module("leftout.cli.main").main()


def end_loading() -> None:
    """Let Ctrl-C be a KeyboardInterrupt again: from here on there is work to be left in order."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os.write(2, b"Stopped.\n")
    os._exit(STOPPED)
