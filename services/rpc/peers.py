"""Who calls, and what they may call.

A peer is the service named by the one URI SAN of its client certificate, `spiffe://<trust domain>/<service>` (SPIFFE
X.509-SVID, section 2). The policy is one TOML file: a table for each gRPC service, a row for each method, in it the
peers, each with the providers it may ask for. What is not in the file is denied:

    [CredentialAccessService]
    GetCredential = { provider = "*", voice-agent = ["vapi", "twilio"] }

`"*"` stands for every provider, and as a peer's name for every peer whose certificate the authority signed.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tenantvault.errors import Unauthenticated
from tenantvault.v1.credential_pb2 import Provider

ANY: Final = "*"
PACKAGE: Final = "tenantvault.v1"

PROVIDERS: Final = frozenset(name.removeprefix("PROVIDER_").lower() for name in Provider.keys()[1:])
"""The providers' names in a policy: those of the contract's enum, e.g. `vapi` and `google_calendar`."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Reads a peer's name from its certificate; one for each trust domain."""

    trust_domain: str

    def peer(self, auth_context: Mapping[str, Iterable[bytes]]) -> str:
        """The service that the certificate names.

        Raises:
            Unauthenticated: there is no certificate, or not exactly one URI of the trust domain in it.
        """
        prefix = f"spiffe://{self.trust_domain}/"
        # The URIs alone: a DNS name or an address that reads like one is not one.
        uris = [uri.decode("utf-8", "replace") for uri in auth_context.get("peer_uri", ())]
        if len(uris) != 1 or not uris[0].startswith(prefix):
            raise Unauthenticated
        name = uris[0].removeprefix(prefix)
        if not _NAME.fullmatch(name):
            raise Unauthenticated
        return name


@dataclass(frozen=True, slots=True)
class Policy:
    """For each full method name, for each peer, the providers it may ask for; None stands for all."""

    rows: Mapping[str, Mapping[str, frozenset[str] | None]]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The policy in a file.

        Raises:
            ValueError: the file is no policy; the sentence names the place.
        """
        try:
            tables = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"the policy {path} cannot be read: {error}") from None
        rows: dict[str, Mapping[str, frozenset[str] | None]] = {}
        for service, methods in tables.items():
            if not isinstance(methods, dict):
                raise ValueError(f"{path}: {service}: give a table of methods")  # noqa: TRY004 - a setting, not a type
            package = "" if "." in service else f"{PACKAGE}."
            for method, peers in methods.items():
                name = f"/{package}{service}/{method}"
                if name in rows:
                    raise ValueError(f"{path}: {service}.{method}: this method has a row already")
                rows[name] = _row(f"{path}: {service}.{method}", peers)
        return cls(rows)

    def allows(self, method: str, peer: str, provider: str | None) -> bool:
        """Whether the peer may call the method, for this provider where the request names one."""
        row = self.rows.get(method, {})
        providers = row.get(peer, row.get(ANY, frozenset()))
        return providers is None or provider in providers

    def check(self, methods: Iterable[str], *, known_services: Iterable[str]) -> None:
        """Refuse a policy that does not fit what this process serves.

        Args:
            methods: the full names of every method that is served here.
            known_services: the full names of every service of the contract, served here or elsewhere.

        Raises:
            ValueError: a method has no row, or a row has no method.
        """
        served = set(methods)
        services = {method.split("/")[1] for method in served}
        rows_here = {row for row in self.rows if row.split("/")[1] in services}
        strangers = {row for row in self.rows if row.split("/")[1] not in services.union(known_services)}
        missing = served.difference(rows_here)
        surplus = rows_here.difference(served).union(strangers)
        if missing or surplus:
            raise ValueError(
                "the policy does not fit: "
                + "; ".join(
                    [f"no row for {method}" for method in sorted(missing)]
                    + [f"no method for row {row}" for row in sorted(surplus)]
                )
            )


def _row(place: str, peers: Any) -> dict[str, frozenset[str] | None]:
    if not isinstance(peers, dict) or not peers:
        raise ValueError(f"{place}: give a table of peers")
    return {peer: _providers(place, peer, providers) for peer, providers in peers.items()}


def _providers(place: str, peer: str, providers: Any) -> frozenset[str] | None:
    if peer != ANY and not _NAME.fullmatch(peer):
        raise ValueError(f"{place}: {peer!r} is not the name of a peer")
    if providers == ANY:
        return None
    if not isinstance(providers, list) or not providers or not all(isinstance(name, str) for name in providers):
        raise ValueError(f'{place}: give {peer} a list of providers, or "*"')
    if unknown := sorted(set(providers) - PROVIDERS):
        raise ValueError(f"{place}: {unknown[0]!r} is no provider: {', '.join(sorted(PROVIDERS))}")
    return frozenset(providers)
