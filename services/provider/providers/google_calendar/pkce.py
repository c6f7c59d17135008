"""Proof Key for Code Exchange (RFC 7636), without anything to keep between the two requests."""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256

from tenantvault.secret import Secret


def verifier(key: Secret, state: str) -> Secret:
    """The code verifier that belongs to a state: 43 characters, and nobody can make it without the key.

    RFC 7636, section 7.1, asks for 256 bits that cannot be guessed: this is a pseudorandom function of a state that is
    used once.
    """
    return Secret(_base64url(hmac.digest(key.reveal().encode(), b"pkce:" + state.encode(), sha256)))


def challenge(code_verifier: Secret) -> str:
    """The code challenge of a verifier by the method S256 (RFC 7636, section 4.2)."""
    return _base64url(sha256(code_verifier.reveal().encode("ascii")).digest())


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
