"""The gateway's settings, out of the environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from gateway.identity import ORG_ID, ClaimPath
from tenantvault.secret import Secret
from tenantvault.tls import TlsFiles

SHORTEST_SECRET: Final = 32
"""Bytes of a signing secret: as many as HS256's hash has (RFC 7518, section 3.2)."""

_PORT: Final = re.compile(r"[0-9]{1,5}")
_HIGHEST_PORT: Final = 65535
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the process needs to know. Exactly one of `jwt_secret`, `jwks_url` and `jwks_file` is set."""

    local: bool
    host: str
    port: int
    public_url: SplitResult
    log_level: str
    vault_target: str
    provider_target: str
    tls: TlsFiles
    jwt_secret: Secret
    jwks_url: str
    jwks_file: str
    issuer: str
    audience: str
    org_claim: ClaimPath
    role_claim: ClaimPath
    admin_roles: frozenset[str]
    session_secret: Secret
    sandbox: bool
    demo_orgs: tuple[str, ...]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """From the TENANTVAULT_ variables.

        Raises:
            ValueError: a variable is missing or wrong; the sentence names it and says what to do.
        """
        local = _choice(environ, "TENANTVAULT_PROFILE", "production", "local") == "local"
        host, port = _listen(environ, local=local)
        jwt_secret, jwks_url = _secret(environ, "TENANTVAULT_JWT_SECRET"), environ.get("TENANTVAULT_JWKS_URL", "")
        config = cls(
            local=local,
            host=host,
            port=port,
            public_url=_public_url(environ, local=local),
            log_level=environ.get("TENANTVAULT_LOG_LEVEL", "info"),
            vault_target=environ.get("TENANTVAULT_VAULT_TARGET", "localhost:7401"),
            provider_target=environ.get("TENANTVAULT_PROVIDER_TARGET", "localhost:7402"),
            tls=_tls(environ),
            jwt_secret=jwt_secret,
            jwks_url=_jwks_url(jwks_url, local=local),
            jwks_file=environ.get("TENANTVAULT_JWKS_FILE", ""),
            issuer=_issued(environ, "TENANTVAULT_JWT_ISSUER", local=local),
            audience=_issued(environ, "TENANTVAULT_JWT_AUDIENCE", local=local),
            org_claim=_path(environ, "TENANTVAULT_JWT_ORG_CLAIM", "org_id"),
            role_claim=_path(environ, "TENANTVAULT_JWT_ROLE_CLAIM", "role"),
            admin_roles=frozenset(_list(environ, "TENANTVAULT_ADMIN_ROLES", "admin,owner")),
            session_secret=_secret(environ, "TENANTVAULT_SESSION_SECRET"),
            sandbox=_choice(environ, "TENANTVAULT_PROVIDERS", "live", "sandbox") == "sandbox",
            demo_orgs=_list(environ, "TENANTVAULT_DEMO_ORGS", "acme,globex" if local else ""),
        )
        config.check()
        return config

    def check(self) -> None:
        """Refuse settings that do not fit together; ValueError says which."""
        if sum(map(bool, (self.jwt_secret, self.jwks_url, self.jwks_file))) != 1:
            raise ValueError("Give one of TENANTVAULT_JWT_SECRET, TENANTVAULT_JWKS_URL and TENANTVAULT_JWKS_FILE.")
        if not self.session_secret:
            raise ValueError("TENANTVAULT_SESSION_SECRET is missing: give at least 32 random characters.")
        if self.jwt_secret == self.session_secret:
            raise ValueError("TENANTVAULT_SESSION_SECRET must differ from TENANTVAULT_JWT_SECRET: give another one.")
        if not self.admin_roles:
            raise ValueError("TENANTVAULT_ADMIN_ROLES is empty: name the roles that may change integrations.")
        if self.demo_orgs and not self.local:
            raise ValueError("TENANTVAULT_DEMO_ORGS lets anybody in: remove it, or set TENANTVAULT_PROFILE=local.")
        if self.sandbox and not self.local:
            raise ValueError("TENANTVAULT_PROVIDERS=sandbox is for TENANTVAULT_PROFILE=local: set it to live.")
        if wrong := [org for org in self.demo_orgs if not ORG_ID.fullmatch(org)]:
            raise ValueError(f"TENANTVAULT_DEMO_ORGS has {wrong[0]!r}: use lower-case letters, digits, - and _.")

    @property
    def secure(self) -> bool:
        """Whether browsers reach us by https."""
        return self.public_url.scheme == "https"


def _choice(environ: Mapping[str, str], name: str, *choices: str) -> str:
    value = environ.get(name, choices[0])
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: give {' or '.join(choices)}.")
    return value


def _secret(environ: Mapping[str, str], name: str) -> Secret:
    path = environ.get(f"{name}_FILE")
    try:
        value = Path(path).read_text().strip() if path else environ.get(name, "")
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{name}_FILE names {path}, which cannot be read.") from None
    if value and len(value.encode()) < SHORTEST_SECRET:
        raise ValueError(f"{name} is too short: give at least {SHORTEST_SECRET} random characters.")
    if path and not value:
        raise ValueError(f"{name}_FILE names {path}, which is empty.")
    return Secret(value)


def _listen(environ: Mapping[str, str], *, local: bool) -> tuple[str, int]:
    listen = environ.get("TENANTVAULT_LISTEN", "127.0.0.1:8400")
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and _PORT.fullmatch(port) and int(port) <= _HIGHEST_PORT):
        raise ValueError(f"TENANTVAULT_LISTEN is {listen!r}: give host:port.")
    if local and host not in _LOOPBACK:
        raise ValueError(f"TENANTVAULT_LISTEN is {listen!r}: the local profile lets anybody in, so use 127.0.0.1.")
    return host, int(port)


def _public_url(environ: Mapping[str, str], *, local: bool) -> SplitResult:
    name = "TENANTVAULT_PUBLIC_URL"
    url = _url(name, environ.get(name, "http://localhost:8400"), local=local)
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(f"{name} has more than an origin: give it like https://vault.example.com.")
    return url


def _jwks_url(value: str, *, local: bool) -> str:
    return _url("TENANTVAULT_JWKS_URL", value, local=local).geturl() if value else ""


def _url(name: str, value: str, *, local: bool) -> SplitResult:
    try:
        url = urlsplit(value)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError(f"{name} is no URL.") from None
    if not host or url.username is not None or url.scheme not in ("http", "https"):
        raise ValueError(f"{name} is no https URL of a host.")
    if url.scheme == "http" and not (local and host in _LOOPBACK):
        raise ValueError(f"{name} must be https: http is for this machine in the local profile.")
    return url


def _issued(environ: Mapping[str, str], name: str, *, local: bool) -> str:
    value = environ.get(name, "")
    if not (value or local):
        raise ValueError(f"{name} is missing: give what your tokens carry.")
    return value


def _path(environ: Mapping[str, str], name: str, default: str) -> ClaimPath:
    value = environ.get(name, default)
    path = tuple(value.split("."))
    if not all(path):
        raise ValueError(f"{name} is {value!r}: give a claim's name, or names with dots between them.")
    return path


def _list(environ: Mapping[str, str], name: str, default: str) -> tuple[str, ...]:
    values = environ.get(name, default).split(",")
    return tuple(value.strip() for value in values if value.strip())


def _tls(environ: Mapping[str, str]) -> TlsFiles:
    try:
        return TlsFiles.from_env(environ)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing: give the path of a PEM file.") from None
