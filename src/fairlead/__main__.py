"""``python -m fairlead`` and the command ``fairlead``. While it is still being imported, Ctrl-C ends it without a word:
a traceback would be all that could be said.
"""

from __future__ import annotations

import signal

_OWN = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else whoever started it wants it ignored
if _OWN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from fairlead import cli  # noqa: E402


def main() -> None:
    """Run the command line and leave the process with its exit status."""
    if _OWN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
