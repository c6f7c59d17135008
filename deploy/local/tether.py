"""Runs a command that ends when its parent does: `python tether.py PARENT SIGNAL UID GID COMMAND...`.

It changes to the account, asks the kernel for the signal at the parent's death, and becomes the command. A small
program between the two rather than a function in the forked child, because a fork of a process with threads may run
next to nothing safely. On systems without PR_SET_PDEATHSIG it only changes the account.
"""

import ctypes
import os
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Become the command."""
    parent, signal, uid, gid = map(int, arguments[:4])
    command = arguments[4:]
    if uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of account: that would clear it again (prctl(2)).
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0):
        sys.exit("Cannot tie this process to its parent.")
    # The parent may have died before the kernel knew.
    if os.getppid() == parent:
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
