"""An issuer's keys: one RSA, one elliptic, and two in its published set that must not count."""

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def public_jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    made = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**json.loads(made.to_jwk(key.public_key())), "kid": kid, **more}


JWKS = {
    "keys": [
        public_jwk(RSA_KEY, "rsa-1", use="sig", alg="RS256"),
        public_jwk(EC_KEY, "ec-1", use="sig"),
        {"kty": "oct", "kid": "shared", "k": "c2hhcmVkLXNlY3JldC1zaGFyZWQtc2VjcmV0LXNoYXJlZA", "alg": "HS256"},
        public_jwk(RSA_KEY, "for-encryption", use="enc"),
    ]
}
