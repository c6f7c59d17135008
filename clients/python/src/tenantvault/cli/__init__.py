"""The operator's command `tenantvault` (extra `cli`)."""

import importlib.util
import json
import sys
from typing import Final

_NEEDED: Final = ("click", "cryptography")


def main() -> int:
    """Run the command; its exit status."""
    # The script is installed with the library, also where the extra is not.
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        said = f"The command needs {' and '.join(missing)}: install what it needs with pip install 'tenantvault[cli]'."
        error = {"error": {"reason": "USAGE", "message": said}}
        sys.stderr.write(f"{json.dumps(error) if '--json' in sys.argv else f'tenantvault: {said} (USAGE)'}\n")
        return 2
    from tenantvault.cli.program import run  # noqa: PLC0415 - only once it is known that its packages are there

    return run()


__all__ = ["main"]
