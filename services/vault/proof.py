"""Proof of the audit in the database: the chain, and that it knows of the last change."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from services.vault.audit import Chain
from tenantvault.audit import VAULT_CHAIN, Broken, Head, Link, Prover, check_signature


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it: how many events are proved, and the first that is not as it was written; 0 when all are."""

    events: int
    head: bytes = b""
    broken_sequence: int = 0
    problem: str = ""


class Chains(Protocol):
    """Where the chains are."""

    def chain_of(self, org_id: str) -> AsyncIterator[Link | Head]:
        """An org's events, the oldest first, and its head."""

    async def generation(self, org_id: str) -> tuple[int, int]:
        """An org's generation as its row says, and as its last change in the audit says."""


class AuditProof:
    """Proves chains against the key that signs here, and not against the one that a row says."""

    def __init__(self, chains: Chains, chain: Callable[[], Awaitable[Chain]]) -> None:
        self._chains = chains
        self._chain = chain

    async def public_key(self) -> bytes:
        """The public half of the key that signs here: what a row says of it may be somebody else's."""
        return (await self._chain()).public_key

    async def prove(self, org_id: str) -> Verdict:
        """Prove a chain; VaultUnavailable when that cannot be done now."""
        public_key = await self.public_key()
        prover, head, change = Prover(org_id), None, 0
        try:
            async for part in self._chains.chain_of(org_id):
                if isinstance(part, Link):
                    prover.add(part)
                    change = _next_change(part, change)
                else:
                    head = part
            # The key that signs here, whatever key a row says.
            prover.end(head, lambda _, signature, message: check_signature(public_key, signature, message))
        except Broken as broken:
            return Verdict(prover.count, prover.last, broken.sequence, str(broken))
        proved, last = prover.count, prover.last
        stored, told = await self._chains.generation(org_id)
        if org_id != VAULT_CHAIN and stored < told:
            problem = f"the org is at change {stored}, and the audit knows of change {told}: an old state was put back"
            return Verdict(proved, last, proved, problem)
        if org_id != VAULT_CHAIN and stored > told:
            problem = f"the org is at change {stored}, and the audit ends with change {told}: its end is missing"
            return Verdict(proved, last, proved + 1, problem)
        return Verdict(proved, last)


def _next_change(link: Link, before: int) -> int:
    """The last change so far. Broken when it is not the next one: each is told by one event, and counts one up.

    What an old state that was put back hides, shows here for ever, also when the org has long gone on from it.
    """
    change = link.event.generation
    if not change:
        return before
    if before and change != before + 1:
        raise Broken(
            link.sequence,
            f"event {link.sequence} tells of change {change} and the one before it of change {before}: an old state was"
            " put back, or events are missing",
        )
    return change
