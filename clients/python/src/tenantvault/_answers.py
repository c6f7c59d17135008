"""What a client remembers of an answer, and what it falls back on when there is none."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from tenantvault._cache import Asked, Cache
from tenantvault._entries import Key
from tenantvault.credentials import ActiveCredential, ResolvedOrg
from tenantvault.errors import DeadlineExceeded, TenantVaultError, VaultUnavailable

AnswerT = TypeVar("AnswerT")


def keep(
    cache: Cache[Any], key: Key, answer: AnswerT, asked: Asked, *, size: int, now: Callable[[], datetime]
) -> AnswerT:
    """Remember an answer of that many bytes, unless it was old when it was given. Returns the answer."""
    if isinstance(answer, ActiveCredential | ResolvedOrg) and not answer.served_stale:
        cache.keep(
            key,
            answer,
            asked,
            org_id=answer.org_id,
            generation=answer.generation,
            size=size,
            life=_life(answer, now),
        )
    return answer


def instead(cache: Cache[Any], key: Key, error: TenantVaultError, within: float | None) -> Any:
    """What was current not too long ago, where the error says that the vault cannot be reached; None without."""
    if not isinstance(error, VaultUnavailable | DeadlineExceeded):
        return None
    old = cache.stale(key, within)
    if old is None:
        return None
    cache.count(stale=1)
    return replace(old, served_stale=True)


def _life(answer: ActiveCredential[Any] | ResolvedOrg, now: Callable[[], datetime]) -> float:
    """Seconds after which the vault would give less than this."""
    if isinstance(answer, ResolvedOrg) or answer.previous is None:
        return math.inf
    return (answer.previous.readable_until - now()).total_seconds()
