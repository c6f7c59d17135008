"""A command as the supervisor runs it."""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.account import Account

_TETHER: Final = Path(__file__).with_name("tether.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, and how it wants to be ended.

    `environment` is all it gets. `keep` are the open files it inherits. `account` is for root only. `stop` are the
    signals that ask it to end, each given its time; `orphaned` is what the kernel sends when our own process dies.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    keep: tuple[int, ...] = ()
    account: Account | None = None
    stop: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    orphaned: signal.Signals = signal.SIGKILL

    def tethered(self) -> tuple[str, ...]:
        """The arguments of the same command, tied to the life of the calling process."""
        uid, gid = (self.account.uid, self.account.gid) if self.account else (0, 0)
        # -I and -S: nothing but the standard library, and started in 10 ms.
        python = (sys.executable, "-I", "-S", str(_TETHER))
        return (*python, str(os.getpid()), str(self.orphaned.value), str(uid), str(gid), *self.arguments)
