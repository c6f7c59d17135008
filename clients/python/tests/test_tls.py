"""TLS files are looked at before gRPC is given them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from tenantvault.tls import TlsFiles


def made(folder: Path, name: str, encryption: KeySerializationEncryption | None = None) -> TlsFiles:
    """A certificate that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    ).sign(key, SHA256())
    files = TlsFiles(
        certificate=folder / f"{name}.pem", key=folder / f"{name}.key", authorities=folder / f"{name}.ca.pem"
    )
    for path in (files.certificate, files.authorities):
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return files


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    return made(tmp_path, "service")


def test_files_that_go_together_are_credentials(tls: TlsFiles) -> None:
    assert isinstance(tls.channel_credentials(), grpc.ChannelCredentials)


@pytest.mark.parametrize("which", ["certificate", "key", "authorities"])
@pytest.mark.parametrize("content", [lambda _: b"", lambda _: b"c4nary", lambda whole: whole[: len(whole) // 2]])
def test_a_file_that_is_half_written_is_named_and_nothing_of_it(
    tls: TlsFiles, which: str, content: Callable[[bytes], bytes]
) -> None:
    path: Path = getattr(tls, which)
    written = content(path.read_bytes())
    path.write_bytes(written)

    with pytest.raises(OSError, match="PEM") as caught:
        tls.channel_credentials()
    assert str(path) in str(caught.value)
    assert not written or written.decode() not in str(caught.value)


def test_a_key_of_another_certificate_is_refused(tls: TlsFiles, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="do not go together"):
        replace(tls, key=made(tmp_path, "other").key).channel_credentials()


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="encrypted"):
        made(tmp_path, "service", BestAvailableEncryption(b"password")).channel_credentials()


@pytest.mark.parametrize("which", ["certificate", "key", "authorities"])
def test_a_file_that_is_gone_is_named(tls: TlsFiles, which: str) -> None:
    path: Path = getattr(tls, which)
    path.unlink()

    with pytest.raises(OSError, match=path.name):
        tls.channel_credentials()


def test_files_that_change_while_they_are_read_are_not_used(tls: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def renewed_meanwhile(path: Path) -> bytes:
        content = read(path)
        path.write_bytes(b"")
        return content

    monkeypatch.setattr(Path, "read_bytes", renewed_meanwhile)
    with pytest.raises(OSError, match="changed while"):
        tls.channel_credentials()
