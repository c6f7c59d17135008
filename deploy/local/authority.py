"""A certificate authority for this machine only: one identity for each process."""

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.local.errors import LocalError
from deploy.local.strongbox import Strongbox
from tenantvault.tls import TlsFiles

TRUST_DOMAIN: Final = "tenantvault.local"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_AUTHORITY: Final = "ca"
_AUTHORITY_LIFE: Final = timedelta(days=3650)
_LEAF_LIFE: Final = timedelta(days=90)
_RENEW_BEFORE: Final = timedelta(days=7)
# For the clock of a virtual machine that lags after a sleep.
_CLOCK_SLACK: Final = timedelta(minutes=5)

_Extension = tuple[x509.ExtensionType, bool]


@dataclass(frozen=True, slots=True)
class _Issuer:
    name: x509.Name
    key: ec.EllipticCurvePrivateKey


def _now() -> datetime:
    return datetime.now(UTC)


class DevelopmentAuthority:
    """Makes the authority of a directory, or goes on with the one that is there, and issues certificates below it.

    Keys are EC P-256 in files of mode 0600, made once; a renewal signs the same key again, so that certificate and key
    fit at every moment, also when several processes issue at once. Trust its certificate nowhere else: the key that
    signs lies beside it.
    """

    def __init__(self, directory: Path, *, now: Callable[[], datetime] = _now) -> None:
        self._directory = directory
        self._box = Strongbox(directory)
        self._now = now

    def issue(self, name: str, *, server: bool) -> TlsFiles:
        """The identity of a service, with the one URI `spiffe://tenantvault.local/<name>`.

        A server also answers to `localhost` and 127.0.0.1. What is there is used again until it has less than seven
        days left or fits no more. Raises LocalError for a name that cannot be one.
        """
        if not _NAME.fullmatch(name) or name == _AUTHORITY:
            raise LocalError(f"{name!r} cannot name a service: use lower-case letters, digits and '-'.")
        key = self._key(_AUTHORITY)
        issuer = _Issuer(_named("TenantVault development authority"), key)
        authorities = self._certificate(_AUTHORITY, key, _authority_extensions(key), issuer, _AUTHORITY_LIFE)
        leaf = self._key(name)
        extensions = _leaf_extensions(name, leaf, issuer, server=server)
        certificate = self._certificate(name, leaf, extensions, issuer, _LEAF_LIFE)
        return TlsFiles(certificate=certificate, key=self._box.path(f"{name}.key"), authorities=authorities)

    def _key(self, name: str) -> ec.EllipticCurvePrivateKey:
        path = self._box.keep(f"{name}.key", _new_key)
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise LocalError(f"{path} is not the key that was made there: remove {self._directory} to make new ones.")
        return key

    def _certificate(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        extensions: Sequence[_Extension],
        issuer: _Issuer,
        life: timedelta,
    ) -> Path:
        path = self._box.path(f"{name}.pem")
        if path.exists() and self._fits(path.read_bytes(), extensions, issuer):
            return path
        now = self._now()
        builder = x509.CertificateBuilder(
            issuer_name=issuer.name,
            subject_name=issuer.name if name == _AUTHORITY else _named(name),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - _CLOCK_SLACK,
            not_valid_after=now + life,
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        pem = builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return self._box.put(path.name, pem.decode())

    def _fits(self, pem: bytes, extensions: Sequence[_Extension], issuer: _Issuer) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            issuer.key.public_key().verify(
                certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256())
            )
            # The key is in there too, as the subject key identifier.
            found = [(extension.value, extension.critical) for extension in certificate.extensions]
        except (ValueError, InvalidSignature):
            return False
        return found == list(extensions) and certificate.not_valid_after_utc - self._now() >= _RENEW_BEFORE


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _new_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _authority_extensions(key: ec.EllipticCurvePrivateKey) -> tuple[_Extension, ...]:
    return (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_usage(signs_certificates=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    )


def _leaf_extensions(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: _Issuer, *, server: bool
) -> tuple[_Extension, ...]:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/{name}")]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if server:
        names += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        purposes.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    return (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage(purposes), False),
        (x509.SubjectAlternativeName(names), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False),
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
