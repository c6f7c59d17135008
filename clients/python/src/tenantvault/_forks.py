"""What a fork leaves of a client: nothing that can be used."""

import functools
import os
import sys
import weakref
from typing import Protocol


class Forked(Protocol):
    """What has to know that this process is a child of the one that made it."""

    def forked(self) -> None:
        """It is used no more. No lock may be taken: who held it is in the parent."""


def tell_in_children(member: Forked) -> None:
    """Have it told in every process that is forked from now on, as long as it is there."""
    _members().add(member)


@functools.cache
def _members() -> "weakref.WeakSet[Forked]":
    members: weakref.WeakSet[Forked] = weakref.WeakSet()

    def tell() -> None:
        for member in list(members):
            member.forked()

    if sys.platform != "win32":
        os.register_at_fork(after_in_child=tell)
    return members
