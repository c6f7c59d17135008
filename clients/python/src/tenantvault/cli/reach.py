"""What keeps a vault from being reached, found with a connection of its own.

gRPC tells little of that, and writes to standard error meanwhile.
"""

import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tenantvault.cli.output import BadInput
from tenantvault.tls import TlsFiles

# A server says something as soon as it has accepted the certificate; one that waits has not refused it.
_SAYS_WITHIN: Final = 3.0
_PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")


def checked(tls: TlsFiles) -> ssl.SSLContext:
    """What a handshake with these files needs; BadInput when one of them cannot be used."""
    for option, path in (("--cert", tls.certificate), ("--key", tls.key), ("--ca", tls.authorities)):
        _read(path, option)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(cafile=tls.authorities)
    except ssl.SSLError:
        raise BadInput(f"{tls.authorities} holds no certificate in PEM: give the authorities with --ca.") from None
    try:
        # An encrypted key cannot be used, so nobody is asked for its password.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: b"")
    except ssl.SSLError:
        raise BadInput(
            f"{tls.certificate} and {tls.key} do not go together, or one of them is not PEM, or the key is encrypted: "
            "look at --cert and --key."
        ) from None
    return context


def obstacle(target: str, context: ssl.SSLContext, *, seconds: float, environ: Mapping[str, str] = os.environ) -> str:
    """What keeps this machine from the vault at `host:port`: a sentence that says what to look at, empty for nothing.

    Where a proxy is set, gRPC goes another way than this, so nothing is looked at.
    """
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    if _goes_by_proxy(host, environ):
        return ""
    try:
        with socket.create_connection((host, int(port)), timeout=seconds) as connection:
            return _handshake(connection, context, host, target)
    except socket.gaierror:
        return f"There is no host {host}: look at the address (--target)."
    except TimeoutError:
        return f"Nothing answers at {target}: look at the address (--target), and at the network on the way there."
    except OSError as error:
        return (
            f"Nothing can be reached at {target} ({_reason(error)}): look at the address (--target), and whether the "
            "vault runs there."
        )


def _goes_by_proxy(host: str, environ: Mapping[str, str]) -> bool:
    # As gRPC finds it out: variables in lower case only.
    exempt = [name.strip().lstrip(".") for name in environ.get("no_proxy", "").split(",")]
    return any(environ.get(name) for name in _PROXIES) and not any(name and host.endswith(name) for name in exempt)


def _handshake(connection: socket.socket, context: ssl.SSLContext, host: str, target: str) -> str:
    try:
        accepted = _accepted(connection, context, host)
    except ssl.SSLCertVerificationError as error:
        return (
            f"The certificate of {target} cannot be trusted ({error.verify_message.rstrip('.')}): look at the "
            "authorities (--ca), and at the host name in --target."
        )
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return f"What answers at {target} does not speak TLS: look at the address (--target)."
        accepted = False
    if accepted:
        return ""
    return (
        f"The vault at {target} does not accept this certificate: look whether --cert is of the vault's authority, and "
        "still valid."
    )


def _accepted(connection: socket.socket, context: ssl.SSLContext, host: str) -> bool:
    """Whether the server takes our certificate: one that does not ends the connection, or says so with an alert."""
    try:
        with context.wrap_socket(connection, server_hostname=host) as tls:
            tls.settimeout(_SAYS_WITHIN)
            with suppress(TimeoutError):
                # Since TLS 1.3 a refusal shows only behind the handshake.
                return bool(tls.recv(1))
            return True
    except (ssl.SSLEOFError, ConnectionError):
        return False


def _read(path: Path, option: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise BadInput(f"Cannot read {path} ({_reason(error)}): look at {option}.") from None


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
