"""Where a process keeps what mutual TLS needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where a process keeps its certificate, its key and the authorities it trusts, all PEM."""

    certificate: Path
    key: Path
    authorities: Path

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """From TENANTVAULT_TLS_CERT, TENANTVAULT_TLS_KEY and TENANTVAULT_TLS_CA; KeyError names a missing one."""
        return cls(
            certificate=Path(environ["TENANTVAULT_TLS_CERT"]),
            key=Path(environ["TENANTVAULT_TLS_KEY"]),
            authorities=Path(environ["TENANTVAULT_TLS_CA"]),
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What a client shows and trusts. OSError when a file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=self.authorities.read_bytes(),
            private_key=self.key.read_bytes(),
            certificate_chain=self.certificate.read_bytes(),
        )
