from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rpc import server
from services.rpc.peers import Identity, Policy
from tenantvault.errors import Unauthenticated
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1 import credential_pb2 as pb

IDENTITY = Identity("tenantvault.local")
SHIPPED = Path(server.__file__).with_name("policy.toml")


def certificate(*uris: str, **others: Iterable[bytes]) -> Mapping[str, Iterable[bytes]]:
    """What gRPC tells of a certificate."""
    names = [uri.encode() for uri in uris]
    told: dict[str, Iterable[bytes]] = {
        "transport_security_type": [b"ssl"],
        "x509_common_name": [b"provider"],
        "x509_subject_alternative_name": [*names, *(name for values in others.values() for name in values)],
        **others,
    }
    return {**told, "peer_uri": names} if uris else told


@pytest.mark.parametrize("name", ["vault", "voice-agent", "a", "0", "a" * 63, "webhook-processor-2"])
def test_a_peer_is_the_service_in_the_one_uri(name: str) -> None:
    assert name == IDENTITY.peer(certificate(f"spiffe://tenantvault.local/{name}"))


def test_names_that_are_no_uris_do_not_matter() -> None:
    told = certificate(
        "spiffe://tenantvault.local/vault",
        peer_dns=[b"localhost", b"spiffe://tenantvault.local/provider"],
        peer_ip=[b"127.0.0.1"],
        peer_email=[b"spiffe://tenantvault.local/provider@example.com"],
    )
    assert "vault" == IDENTITY.peer(told)


@pytest.mark.parametrize(
    "told",
    [
        {},
        certificate(),
        certificate(peer_dns=[b"spiffe://tenantvault.local/provider"]),
        certificate(peer_email=[b"spiffe://tenantvault.local/provider"]),
        certificate("spiffe://tenantvault.local/vault", "spiffe://tenantvault.local/provider"),
        certificate("spiffe://tenantvault.local/vault", "spiffe://tenantvault.local/vault"),
        certificate("spiffe://tenantvault.local/vault", "urn:uuid:11111111-2222-3333-4444-555555555555"),
        certificate("urn:provider"),
        certificate("https://tenantvault.local/provider"),
    ],
    ids=["plaintext", "no name", "DNS", "e-mail", "two", "one twice", "a second of another kind", "urn", "https"],
)
def test_without_exactly_one_uri_nobody_is_known(told: Mapping[str, Iterable[bytes]]) -> None:
    with pytest.raises(Unauthenticated):
        IDENTITY.peer(told)


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://other.local/vault",
        "spiffe://tenantvault.local.evil.com/vault",
        "spiffe://evil.com/tenantvault.local/vault",
        "spiffe://tenantvault.local:443/vault",
        "spiffe://x@tenantvault.local/vault",
        "SPIFFE://tenantvault.local/vault",
        "spiffe://TENANTVAULT.LOCAL/vault",
        " spiffe://tenantvault.local/vault",
        "spiffe://tenantvault.local",
        "spiffe://tenantvault.local/",
        "spiffe://tenantvault.local//vault",
        "spiffe://tenantvault.local/vault/",
        "spiffe://tenantvault.local/ns/vault",
        "spiffe://tenantvault.local/../vault",
        "spiffe://tenantvault.local/Vault",
        "spiffe://tenantvault.local/-vault",
        "spiffe://tenantvault.local/v_a",
        "spiffe://tenantvault.local/*",
        "spiffe://tenantvault.local/vault?x=1",
        "spiffe://tenantvault.local/vault#x",
        "spiffe://tenantvault.local/vault\n",
        "spiffe://tenantvault.local/vault\0",
        "spiffe://tenantvault.local/v%61ult",
        "spiffe://tenantvault.local/väult",
        f"spiffe://tenantvault.local/{'a' * 64}",
    ],
)
def test_a_uri_of_another_domain_or_form_is_nobody(uri: str) -> None:
    with pytest.raises(Unauthenticated):
        IDENTITY.peer(certificate(uri))


def test_bytes_that_are_no_text_are_nobody() -> None:
    with pytest.raises(Unauthenticated):
        IDENTITY.peer({"peer_uri": [b"spiffe://tenantvault.local/\xff"]})


@given(uris=st.lists(st.binary(max_size=40), max_size=3))
def test_no_certificate_gives_anything_but_a_name_or_nobody(uris: list[bytes]) -> None:
    with pytest.raises(Unauthenticated):
        IDENTITY.peer({"peer_uri": uris})


def policy(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return Policy.read(path)


ROWS = """
[Service]
All = { "*" = "*" }
Some = { provider = "*", voice-agent = ["vapi", "twilio"] }

["other.package.Service"]
Method = { "*" = ["vapi"], provider = ["twilio"] }
"""


@pytest.mark.parametrize(
    ("method", "peer", "provider", "allowed"),
    [
        ("/tenantvault.v1.Service/All", "anybody", None, True),
        ("/tenantvault.v1.Service/All", "anybody", "vapi", True),
        ("/tenantvault.v1.Service/Some", "provider", None, True),
        ("/tenantvault.v1.Service/Some", "provider", "resend", True),
        ("/tenantvault.v1.Service/Some", "voice-agent", "vapi", True),
        ("/tenantvault.v1.Service/Some", "voice-agent", "resend", False),
        ("/tenantvault.v1.Service/Some", "voice-agent", None, False),
        ("/tenantvault.v1.Service/Some", "voice-agent", "*", False),
        ("/tenantvault.v1.Service/Some", "gateway", "vapi", False),
        ("/tenantvault.v1.Service/Some", "*", "vapi", False),
        ("/other.package.Service/Method", "anybody", "vapi", True),
        # A peer's own entry stands in the place of everybody's.
        ("/other.package.Service/Method", "provider", "vapi", False),
        ("/other.package.Service/Method", "provider", "twilio", True),
        # What is not there is denied, however much it looks like what is.
        ("/tenantvault.v1.Service/Other", "provider", None, False),
        ("/tenantvault.v1.service/Some", "provider", None, False),
        ("/Service/Some", "provider", None, False),
        ("tenantvault.v1.Service/Some", "provider", None, False),
        ("/tenantvault.v1.Service/Some/", "provider", None, False),
        ("", "provider", None, False),
    ],
)
def test_what_a_row_allows(tmp_path: Path, method: str, peer: str, provider: str | None, *, allowed: bool) -> None:
    assert allowed is policy(tmp_path, ROWS).allows(method, peer, provider)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[Service", "cannot be read"),
        ("Method = 1", "Method: give a table of methods"),
        ("Service = []", "Service: give a table of methods"),
        ("[Service]\nMethod = 1", "Service.Method: give a table of peers"),
        ("[Service]\nMethod = {}", "Service.Method: give a table of peers"),
        ('[Service]\nMethod = "*"', "Service.Method: give a table of peers"),
        ("[Service]\nMethod = { Gateway = '*' }", "Service.Method: 'Gateway' is not the name of a peer"),
        ("[Service]\nMethod = { 'a*' = '*' }", r"Service.Method: 'a\*' is not the name of a peer"),
        ("[Service]\nMethod = { gateway = 'vapi' }", "Service.Method: give gateway a list of providers"),
        ("[Service]\nMethod = { gateway = [] }", "Service.Method: give gateway a list of providers"),
        ("[Service]\nMethod = { gateway = [1] }", "Service.Method: give gateway a list of providers"),
        (
            "[Service]\nMethod = { gateway = ['vapi', 'googleCalendar'] }",
            "Service.Method: 'googleCalendar' is no provider",
        ),
        ("[Service]\nMethod = { gateway = ['unspecified'] }", "Service.Method: 'unspecified' is no provider"),
        ("[Service]\nMethod = { gateway = true }", "Service.Method: give gateway a list of providers"),
        (
            "[Service]\nMethod = { a = '*' }\n['tenantvault.v1.Service']\nMethod = { b = '*' }",
            "tenantvault.v1.Service.Method: this method has a row already",
        ),
    ],
)
def test_what_is_no_policy_is_refused_by_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        policy(tmp_path, text)
    assert str(tmp_path / "policy.toml") in str(refused.value)


def test_a_policy_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "binary"):
        with pytest.raises(ValueError, match="cannot be read"):
            Policy.read(path)


@given(text=st.text(st.characters(codec="utf-8"), max_size=60) | st.text("[]{}='\"*.ab\n", max_size=60))
def test_no_text_gives_anything_but_a_policy_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text)
    try:
        found = Policy.read(path)
    except ValueError:
        return
    assert all(row.startswith("/") for row in found.rows)


def test_a_policy_must_fit_what_is_served(tmp_path: Path) -> None:
    served = ["/tenantvault.v1.Service/All", "/tenantvault.v1.Service/Some"]
    found = policy(tmp_path, ROWS)
    found.check(served, known_services=["other.package.Service"])
    for methods, known, complaint in (
        ([*served, "/tenantvault.v1.Service/New"], ["other.package.Service"], "no row for /tenantvault.v1.Service/New"),
        (served[:1], ["other.package.Service"], "no method for row /tenantvault.v1.Service/Some"),
        (served, [], "no method for row /other.package.Service/Method"),
        ([], ["tenantvault.v1.Service"], "no method for row /other.package.Service/Method"),
    ):
        with pytest.raises(ValueError, match=f"the policy does not fit: .*{complaint}"):
            found.check(methods, known_services=known)


def test_everything_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no row for /a/B; no row for /c/D; no method for row /other"):
        policy(tmp_path, ROWS).check(["/c/D", "/a/B"], known_services=["tenantvault.v1.Service"])


def test_the_shipped_policy_lets_the_gateway_read_no_plaintext() -> None:
    shipped = Policy.read(SHIPPED)
    service = access_pb.DESCRIPTOR.services_by_name["CredentialAccessService"]
    for method in service.methods:
        row = shipped.rows[f"/{service.full_name}/{method.name}"]
        # It tells that an org changed, and nothing else.
        gateway = () if method.name == "WatchChanges" else ("gateway",)
        assert not {*gateway, "*"} & row.keys()
        for provider in (None, "unspecified", "vapi", "twilio", "google_calendar", "resend", "elevenlabs"):
            for peer in (*gateway, "vault", "stranger", "*", "-"):
                assert not shipped.allows(f"/{service.full_name}/{method.name}", peer, provider)


def test_the_shipped_policy_has_a_row_for_every_method_and_no_other() -> None:
    methods = [f"/{service}/{method}" for service in server._contract() for method in methods_of(service)]
    health = [f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch", "List")]
    Policy.read(SHIPPED).check([*methods, *health], known_services=[])


def methods_of(service: str) -> list[str]:
    descriptor: Any = pb.DESCRIPTOR.pool.FindServiceByName(service)
    return [method.name for method in descriptor.methods]


def test_the_shipped_policy_lets_nobody_but_the_operator_do_an_operators_work() -> None:
    rows = Policy.read(SHIPPED).rows
    service = admin_pb.DESCRIPTOR.services_by_name["VaultAdminService"]
    for method in service.methods:
        assert {"operator"} == rows[f"/{service.full_name}/{method.name}"].keys()


def test_the_shipped_policy_lets_the_operator_read_no_plaintext() -> None:
    rows = Policy.read(SHIPPED).rows
    for method in methods_of("tenantvault.v1.CredentialAccessService"):
        assert "operator" not in rows[f"/tenantvault.v1.CredentialAccessService/{method}"]


def test_in_the_shipped_policy_everybody_may_do_nothing_but_ask_for_health_and_reflection() -> None:
    for method, row in Policy.read(SHIPPED).rows.items():
        assert ("*" in row) == method.startswith("/grpc.")
