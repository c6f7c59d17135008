import ipaddress
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.local.authority import DevelopmentAuthority
from deploy.local.errors import LocalError
from tenantvault.tls import TlsFiles

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "tls"


def authority(directory: Path, *, days: float = 0) -> DevelopmentAuthority:
    return DevelopmentAuthority(directory, now=lambda: NOW + timedelta(days=days))


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_server_has_one_uri_and_answers_on_this_machine(directory: Path) -> None:
    certificate = read(authority(directory).issue("vault", server=True).certificate)

    assert names(certificate) == [
        x509.UniformResourceIdentifier("spiffe://tenantvault.local/vault"),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    assert purposes(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_client_has_its_uri_and_nothing_else(directory: Path) -> None:
    certificate = read(authority(directory).issue("voice-agent", server=False).certificate)

    assert names(certificate) == [x509.UniformResourceIdentifier("spiffe://tenantvault.local/voice-agent")]
    assert purposes(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_authority_signs_and_its_leaves_cannot(directory: Path) -> None:
    files = authority(directory).issue("vault", server=True)
    root, leaf = read(files.authorities), read(files.certificate)

    leaf.verify_directly_issued_by(root)
    for certificate, is_authority in ((root, True), (leaf, False)):
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (basic.value.ca, basic.critical) == (is_authority, True)
        assert (usage.key_cert_sign, usage.digital_signature) == (is_authority, not is_authority)
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_keys_are_of_p256_and_for_their_owner_only(directory: Path) -> None:
    files = authority(directory).issue("vault", server=True)

    for path in (files.key, directory / "ca.key"):
        key = load_pem_private_key(path.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_what_is_there_is_used_again(directory: Path) -> None:
    first = _contents(authority(directory).issue("vault", server=True).certificate.parent)

    authority(directory, days=82).issue("vault", server=True)

    assert _contents(directory) == first


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_certificate_with_less_than_seven_days_is_renewed_with_its_key(directory: Path) -> None:
    files = authority(directory).issue("vault", server=True)
    key, before, root = files.key.read_bytes(), read(files.certificate), files.authorities.read_bytes()

    authority(directory, days=84).issue("vault", server=True)

    after = read(files.certificate)
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert (files.key.read_bytes(), files.authorities.read_bytes()) == (key, root)


def test_the_authority_is_renewed_with_its_key_so_that_its_leaves_stay_good(directory: Path) -> None:
    files = authority(directory).issue("vault", server=True)
    before = read(files.authorities)

    authority(directory, days=3645).issue("vault", server=True)

    assert read(files.authorities).not_valid_after_utc > before.not_valid_after_utc
    assert read(files.authorities).public_key() == before.public_key()


def _other_purpose(directory: Path) -> None:
    authority(directory).issue("vault", server=False)


def _other_authority(directory: Path) -> None:
    (directory / "ca.key").unlink()
    (directory / "ca.pem").unlink()


def _damage(directory: Path) -> None:
    (directory / "vault.pem").write_text("half a certif")


def _lose_the_key(directory: Path) -> None:
    (directory / "vault.key").unlink()


def _swap(directory: Path) -> None:
    other = authority(directory).issue("gateway", server=True)
    (directory / "vault.pem").write_bytes(other.certificate.read_bytes())


@pytest.mark.parametrize("change", [_other_purpose, _other_authority, _damage, _lose_the_key, _swap])
def test_a_certificate_that_no_longer_fits_is_made_anew(directory: Path, change: Callable[[Path], None]) -> None:
    authority(directory).issue("vault", server=True)
    change(directory)

    files = authority(directory).issue("vault", server=True)

    leaf = read(files.certificate)
    leaf.verify_directly_issued_by(read(files.authorities))
    key = load_pem_private_key(files.key.read_bytes(), password=None)
    assert leaf.public_key() == key.public_key()
    assert names(leaf)[0] == x509.UniformResourceIdentifier("spiffe://tenantvault.local/vault")
    assert ExtendedKeyUsageOID.SERVER_AUTH in purposes(leaf)


def test_many_at_once_share_one_authority(directory: Path) -> None:
    def issue(number: int) -> TlsFiles:
        return authority(directory).issue(f"service-{number % 4}", server=True)

    with ThreadPoolExecutor(8) as pool:
        for files in pool.map(issue, range(16)):
            leaf = read(files.certificate)
            leaf.verify_directly_issued_by(read(files.authorities))
            assert leaf.public_key() == load_pem_private_key(files.key.read_bytes(), password=None).public_key()


@pytest.mark.parametrize("name", ["", "ca", "../vault", "Vault", "-vault", "va ult", "a" * 64, "vault\n"])
def test_a_name_that_cannot_be_one_is_refused(directory: Path, name: str) -> None:
    with pytest.raises(LocalError, match="cannot name a service"):
        authority(directory).issue(name, server=True)

    assert not directory.exists()


def test_a_key_of_another_kind_is_not_used(directory: Path) -> None:
    directory.mkdir()
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "ca.key").write_bytes(pem)

    with pytest.raises(LocalError, match="is not the key that was made there"):
        authority(directory).issue("vault", server=True)
