"""The newest generation that is known of each org, for the orgs of late."""

from collections import OrderedDict
from typing import Final

REMEMBERED_ORGS: Final = 10_000
"""How many orgs are remembered; those of which nothing was heard for the longest go first."""


class Generations:
    """What is known of orgs, and since which change: `changes` counts those that were told.

    Of an answer that was asked for before the change `let_go`, it is not known any more whether it is old.
    """

    def __init__(self, *, bound: int = REMEMBERED_ORGS) -> None:
        self._bound = bound
        self._newest: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self.changes = 0
        self.let_go = 0

    def newest(self, org_id: str) -> int:
        """The newest generation of an org; 0 when nothing is known of it."""
        return self._newest.get(org_id, (0, 0))[0]

    def learn(self, org_id: str, generation: int) -> bool:
        """An org is, or was, at a generation; whether that is news."""
        known, _ = self._newest.pop(org_id, (0, 0))
        self._newest[org_id] = (max(generation, known), self.changes)
        if len(self._newest) > self._bound:
            _, (_, self.let_go) = self._newest.popitem(last=False)
        return generation > known
