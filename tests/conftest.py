"""What holds for all tests."""

from __future__ import annotations

import signal

# What runs in the background of a script may have been started with SIGINT ignored, which every process begun from here would inherit:
# none would heed Ctrl-C. A signal that is handled is at its default in them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
