"""Who gets a connection, and who is known on it."""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from google.protobuf.wrappers_pb2 import StringValue

from tenantvault.channel import call
from tenantvault.errors import Unauthenticated, Unavailable
from tenantvault.tls import TlsFiles
from tests.integration.rpc.conftest import Authority, Running, method, serving

HELLO = StringValue(value="hello")
OWN = "spiffe://tenantvault.local/caller"


async def test_a_certificate_of_the_authority_gets_an_answer(running: Running) -> None:
    assert "hello" == (await call(method(await running.channel()), HELLO)).value
    assert {("/tests.Echo/Ask", "caller", "OK"): 1.0} == running.counted()


NO_CONNECTION: dict[str, Callable[[Authority, Authority], TlsFiles]] = {
    "of a foreign authority": lambda ours, foreign: foreign.issue("caller", trusts=ours),
    "expired": lambda ours, _: ours.issue("caller", begins=timedelta(days=-2), ends=timedelta(seconds=-1)),
    "not valid yet": lambda ours, _: ours.issue("caller", begins=timedelta(hours=1), ends=timedelta(hours=2)),
    "for servers only": lambda ours, _: ours.issue("caller", purposes=[ExtendedKeyUsageOID.SERVER_AUTH]),
}


@pytest.mark.parametrize("which", NO_CONNECTION)
async def test_no_connection_with_a_certificate(running: Running, tmp_path: Path, which: str) -> None:
    # Of the same name as ours, so that only its key can tell it.
    foreign = Authority(tmp_path / "foreign")
    channel = await running.channel(NO_CONNECTION[which](running.authority, foreign))
    with pytest.raises(Unavailable):
        await call(method(channel), HELLO)
    assert {} == running.counted()


async def test_no_connection_without_a_certificate(running: Running) -> None:
    credentials = grpc.ssl_channel_credentials(root_certificates=running.authority.pem)
    async with grpc.aio.secure_channel(running.target, credentials) as channel:
        with pytest.raises(Unavailable):
            await call(method(channel), HELLO)
    assert {} == running.counted()


async def test_no_connection_without_tls(running: Running) -> None:
    async with grpc.aio.insecure_channel(running.target) as channel:
        with pytest.raises(Unavailable):
            await call(method(channel), HELLO, deadline=2)
    assert {} == running.counted()


async def test_a_client_does_not_talk_to_a_server_of_a_foreign_authority(running: Running, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "foreign")
    with pytest.raises(Unavailable):
        await call(method(await running.channel(running.authority.issue("caller", trusts=foreign))), HELLO)
    assert {} == running.counted()


UNKNOWN: dict[str, Callable[[Authority], TlsFiles]] = {
    "two URIs": lambda ours: ours.issue("x", uris=[OWN, "spiffe://tenantvault.local/other"]),
    "the same URI twice": lambda ours: ours.issue("x", uris=[OWN, OWN]),
    "a URI of another kind beside it": lambda ours: ours.issue("x", uris=[OWN, "urn:uuid:0"]),
    "another trust domain": lambda ours: ours.issue("x", uris=["spiffe://other.local/caller"]),
    "a domain that begins like ours": lambda ours: ours.issue(
        "x", uris=["spiffe://tenantvault.local.evil.example/caller"]
    ),
    "a longer path": lambda ours: ours.issue("x", uris=["spiffe://tenantvault.local/ns/caller"]),
    "no name at all": lambda ours: ours.issue("caller", uris=[]),
    "a DNS name only": lambda ours: ours.issue("caller", uris=[], others=[x509.DNSName("caller")]),
    "a DNS name that reads like the URI": lambda ours: ours.issue("x", uris=[], others=[x509.DNSName(OWN)]),
    "an e-mail address that reads like it": lambda ours: ours.issue("x", uris=[], others=[x509.RFC822Name(OWN)]),
}


@pytest.mark.parametrize("which", UNKNOWN)
async def test_nobody_is_known_by_a_certificate_with(running: Running, which: str) -> None:
    with pytest.raises(Unauthenticated):
        await call(method(await running.channel(UNKNOWN[which](running.authority))), HELLO)
    assert {("/tests.Echo/Ask", "-", "UNAUTHENTICATED"): 1.0} == running.counted()


async def test_other_names_beside_the_uri_do_not_matter(running: Running) -> None:
    tls = running.authority.issue(
        "caller",
        others=[
            x509.DNSName("localhost"),
            x509.DNSName("spiffe://tenantvault.local/other"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ],
    )
    assert "hello" == (await call(method(await running.channel(tls)), HELLO)).value
    assert {("/tests.Echo/Ask", "caller", "OK"): 1.0} == running.counted()


async def test_a_name_in_metadata_is_nobodys_name(running: Running) -> None:
    channel = await running.channel(running.authority.issue("stranger"))
    metadata = tuple((key, OWN) for key in ("x-spiffe-id", "x-forwarded-client-cert", "peer", "authorization"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await method(channel)(HELLO, timeout=5, metadata=metadata)
    assert grpc.StatusCode.PERMISSION_DENIED is refused.value.code()


def serial_shown(port: int, tls: TlsFiles) -> int:
    """The serial number of the certificate that the server shows on a new connection."""
    context = ssl.create_default_context(cafile=str(tls.authorities))
    context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols(["h2"])
    with (
        ssl.create_connection(("127.0.0.1", port)) as plain,  # type: ignore[attr-defined]  # socket's, by its import
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def serial_of(pem: bytes) -> int:
    return x509.load_pem_x509_certificate(pem).serial_number


async def test_a_renewed_certificate_is_shown_on_new_connections_and_old_ones_go_on(running: Running) -> None:
    ours = running.authority
    caller = ours.issue("caller")
    old_connection = await running.channel(caller)
    await call(method(old_connection), HELLO)
    files = ours.server()
    for _ in range(3):
        renewed = serial_of(ours.server().certificate.read_bytes())
        assert renewed == await asyncio.to_thread(serial_shown, running.port, caller)
        assert renewed == await asyncio.to_thread(serial_shown, running.port, caller)
    assert "hello" == (await call(method(old_connection), HELLO)).value
    assert "hello" == (await call(method(await running.channel(caller)), HELLO)).value
    assert files.certificate.exists()


async def test_files_in_the_middle_of_a_renewal_change_nothing(running: Running) -> None:
    ours = running.authority
    caller = ours.issue("caller")
    files = ours.server()
    old = await asyncio.to_thread(serial_shown, running.port, caller)
    before = {path: path.read_bytes() for path in (files.certificate, files.key)}
    ours.server()
    after = {path: path.read_bytes() for path in before}
    for path, content in before.items():
        path.write_bytes(content)

    # The new certificate with the old key; half of the new certificate; nothing; gone.
    for unfit in (after[files.certificate], after[files.certificate][:300], b"", None):
        if unfit is None:
            files.certificate.unlink()
        else:
            files.certificate.write_bytes(unfit)
        assert old == await asyncio.to_thread(serial_shown, running.port, caller)
    for path, content in after.items():
        path.write_bytes(content)
    assert serial_of(after[files.certificate]) == await asyncio.to_thread(serial_shown, running.port, caller)


async def test_an_authority_that_is_added_or_taken_away_counts_for_new_connections(
    running: Running, tmp_path: Path
) -> None:
    ours, next_one = running.authority, Authority(tmp_path / "next", name="the next authority")
    caller = next_one.issue("caller", trusts=ours)
    with pytest.raises(Unavailable):
        await call(method(await running.channel(caller)), HELLO)
    trusted = ours.folder / "echo.ca.pem"
    trusted.write_bytes(ours.pem + next_one.pem)
    assert "hello" == (await call(method(await running.channel(caller)), HELLO)).value
    assert "hello" == (await call(method(await running.channel()), HELLO)).value
    trusted.write_bytes(next_one.pem)
    assert "hello" == (await call(method(await running.channel(caller)), HELLO)).value
    with pytest.raises(Unavailable):
        await call(method(await running.channel()), HELLO)


@pytest.mark.parametrize("which", ["certificate", "key", "authorities"])
async def test_files_that_fit_nothing_stop_the_start_with_a_sentence(
    authority: Authority, tmp_path: Path, which: str
) -> None:
    tls = authority.server("odd")
    getattr(tls, which).write_text("-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n")
    with pytest.raises((OSError, ValueError)) as refused:
        async with serving(authority, tmp_path, tls=tls):
            pass
    assert "canary" not in str(refused.value)
