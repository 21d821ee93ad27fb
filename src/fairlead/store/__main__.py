"""``python -m fairlead.store mend DIRECTORY``: the command that the error about a damaged store names."""

from __future__ import annotations

import sys
from pathlib import Path

from fairlead.errors import FairleadError
from fairlead.store.mend import mend


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status."""
    if len(arguments) != 2 or arguments[0] != "mend":
        sys.stderr.write(f"usage: {sys.executable} -m fairlead.store mend DIRECTORY\n")
        return 2
    try:
        lines = mend(Path(arguments[1]).resolve())
    except FairleadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
