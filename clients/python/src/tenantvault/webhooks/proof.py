"""What all verifications share: keyed hashes, comparisons, clocks, and the same hashing whatever the answer is."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tenantvault.secret import Secret
from tenantvault.webhooks.rejection import Cause, WebhookRejected

KeyT = TypeVar("KeyT")

# The current secret and the one before.
_SLOTS: Final = 2
# int() alone takes signs, spaces, underscores and the digits of every script.
_WHOLE_NUMBER: Final = re.compile(rb"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Key:
    """What a webhook proves itself by. It shows no secret: a log may show what is in the frames of an error.

    So no function that raises has a secret, or a signature that would be the right one, in a variable of its own.

    Args:
        secret: the key itself.
        algorithm: `sha1`, `sha256` or `sha512`.
    """

    secret: bytes = field(repr=False)
    algorithm: str = "sha256"


def mac(key: Key, *parts: bytes) -> bytes:
    """The HMAC (RFC 2104) of the parts, one after the other."""
    # A body may be large: it is not copied to stand beside what else is signed.
    keyed = hmac.new(key.secret, None, key.algorithm)
    for part in parts:
        keyed.update(part)
    return keyed.digest()


def same(presented: bytes, expected: bytes) -> bool:
    """Whether both are equal. The time that it takes tells neither where they differ nor how long `expected` is."""
    return hmac.compare_digest(hashlib.sha256(presented).digest(), hashlib.sha256(expected).digest())


def any_same(presented: Sequence[bytes], expected: Sequence[bytes]) -> bool:
    """Whether one of the presented is one of the expected; each is compared with each, whatever comes of it."""
    found = [same(one, other) for one in presented for other in expected]
    return any(found)


def secret_key(secret: Secret) -> Key | None:
    """A secret as a key; None when it is empty."""
    encoded = secret.reveal().encode("utf-8", "surrogatepass")
    return Key(encoded) if encoded else None


def slots(keys: Sequence[KeyT | None], stand_in: KeyT) -> tuple[tuple[KeyT, bool], ...]:
    """Each key, and whether it is a real one; the stand-in for each that is None, and up to two of all.

    So an org that nobody knows, one without a secret, and one before or after its rotation cost the same hashing.
    """
    filled = tuple((stand_in, False) if key is None else (key, True) for key in keys)
    return filled + ((stand_in, False),) * (_SLOTS - len(filled))


def judge(usable: Sequence[bool], matches: Sequence[bool], *, presented: bool) -> None:
    """Accept when there is a match.

    Args:
        usable: for each credential, whether it has a key.
        matches: for each slot, whether the proof is by its key, and the key a real one.
        presented: whether the request holds a proof at all.

    Raises:
        WebhookRejected: nothing matches.
    """
    if any(matches):
        return
    if not usable:
        raise WebhookRejected(Cause.UNKNOWN_ORG)
    if not usable[0]:
        raise WebhookRejected(Cause.NOT_CONFIGURED)
    raise WebhookRejected(Cause.BAD_SIGNATURE if presented else Cause.NO_SIGNATURE)


def whole_number(text: bytes | None) -> int:
    """The number in a header: ASCII digits, at most 15.

    Raises:
        WebhookRejected: it is missing, or no such number.
    """
    if text is None or not _WHOLE_NUMBER.fullmatch(text):
        raise WebhookRejected(Cause.MALFORMED)
    return int(text)


def check_clock(signed_at: float, now: float, *, past: float, future: float) -> None:
    """Accept what was signed at most `past` seconds ago, and at most `future` seconds ahead of our clock.

    Raises:
        WebhookRejected: it was signed earlier or later.
    """
    if signed_at < now - past:
        raise WebhookRejected(Cause.TOO_OLD)
    if signed_at > now + future:
        raise WebhookRejected(Cause.TOO_NEW)
