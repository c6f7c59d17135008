"""The same as the command: `python -m tenantvault.cli`."""

import sys

from tenantvault.cli import main

if __name__ == "__main__":
    sys.exit(main())
