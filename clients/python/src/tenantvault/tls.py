"""Where a process keeps what mutual TLS needs."""

import ssl
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

    def stamp(self) -> tuple[tuple[int, ...], ...]:
        """What changes with a file's content, even within one tick of the file system's clock. OSError as below."""
        stats = [path.stat() for path in (self.certificate, self.key, self.authorities)]
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What a client shows and trusts.

        Raises:
            OSError: a file cannot be read, or they cannot be used together; the sentence names files, not contents.
        """
        stamp = self.stamp()
        self._check()
        authorities, key, certificate = (path.read_bytes() for path in (self.authorities, self.key, self.certificate))
        if self.stamp() != stamp:
            raise OSError("The TLS files changed while they were read.")
        return grpc.ssl_channel_credentials(authorities, key, certificate)

    def _check(self) -> None:
        # gRPC does not: it would fail with every connection, and end the process where the certificate is empty.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(self.authorities)
        except ssl.SSLError:
            raise OSError(f"{self.authorities} holds no certificate in PEM.") from None
        try:
            # An encrypted key cannot be used, so nobody is asked for its password.
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except ssl.SSLError:
            raise OSError(
                f"{self.certificate} and {self.key} do not go together, or one of them is not PEM, or the key is "
                "encrypted."
            ) from None
