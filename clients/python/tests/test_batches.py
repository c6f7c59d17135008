"""`get_many` and `resolve_orgs`: each key has its own outcome, in the order of the keys."""

from datetime import UTC, datetime
from typing import Any, assert_type

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tenantvault import (
    ActiveCredential,
    AsyncClient,
    Batch,
    CacheSettings,
    Client,
    Credential,
    Provider,
    ResolvedOrg,
    ResourceKind,
    Secret,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.errors import (
    CredentialNotFound,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    OrgFrozen,
    PermissionDenied,
    TenantVaultError,
    VaultUnavailable,
)
from tenantvault.messages import credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VAPI = credential_to_message(VapiCredential(api_key=Secret("key")))
TWILIO = credential_to_message(TwilioCredential(account_sid="AC" + "0" * 32, phone_number="+12025550100"))
FAILURES = {
    "nobody": pb.KeyFailure(reason="CREDENTIAL_NOT_FOUND", message="Connect it first."),
    "frozen": pb.KeyFailure(reason="ORG_FROZEN", message="It is frozen."),
    "broken": pb.KeyFailure(reason="VAULT_UNAVAILABLE", message="The database is away."),
    "new": pb.KeyFailure(reason="A_NEWER_REASON", message="Something new."),
}


def outcome(key: Any) -> access.CredentialOutcome:
    if key.org_id in FAILURES:
        return access.CredentialOutcome(failure=FAILURES[key.org_id])
    credential = TWILIO if key.provider == pb.PROVIDER_TWILIO else VAPI
    return access.CredentialOutcome(
        credential=pb.ActiveCredential(
            org_id=key.org_id, provider=key.provider, version=1, credential=credential, generation=7
        )
    )


def answer(call: Any) -> Any:
    match call.request:
        case access.BatchGetCredentialsRequest(keys=keys):
            return access.BatchGetCredentialsResponse(outcomes=[outcome(key) for key in keys])
        case directory.BatchResolveOrgsRequest(keys=keys):
            return directory.BatchResolveOrgsResponse(
                outcomes=[
                    directory.OrgOutcome(failure=pb.KeyFailure(reason="RESOURCE_NOT_FOUND", message="No org has it."))
                    if key.resource_id == "nobodys"
                    else directory.OrgOutcome(
                        org=directory.ResolveOrgResponse(org_id=f"org-{key.resource_id}", role="r", generation=7)
                    )
                    for key in keys
                ]
            )
        case access.GetCredentialRequest() as request:
            return access.GetCredentialResponse(credential=outcome(request).credential)
        case request:
            return directory.ResolveOrgResponse(org_id=f"org-{request.resource_id}", role="r", generation=7)


@pytest.fixture(autouse=True)
def vault(wire: Any) -> None:
    wire.answer = answer


def numbers(wire: Any) -> list[int]:
    return [len(call.request.keys) for call in wire.calls]


async def test_each_key_has_its_credential_or_its_error_in_the_order_of_the_keys(client: Any, wire: Any) -> None:
    keys = [("globex", Provider.TWILIO), ("nobody", Provider.VAPI), ("acme", Provider.VAPI), ("frozen", Provider.VAPI)]

    found = await client.get_many(keys)

    assert keys == list(found)
    assert [("globex", Provider.TWILIO), ("acme", Provider.VAPI)] == [
        (each.org_id, each.provider) for each in found.found.values()
    ]
    assert [(CredentialNotFound, "Connect it first."), (OrgFrozen, "It is frozen.")] == [
        (type(each), each.message) for each in found.failed.values()
    ]
    assert ["/tenantvault.v1.CredentialAccessService/BatchGetCredentials"] == [call.method for call in wire.calls]


async def test_each_resource_has_its_org_or_its_error(client: Any, wire: Any) -> None:
    keys = [
        (ResourceKind.PHONE_NUMBER, "b"),
        (ResourceKind.PHONE_NUMBER, "nobodys"),
        (ResourceKind.VAPI_ASSISTANT, "a"),
    ]

    found = await client.resolve_orgs(keys)

    assert ["org-b", None, "org-a"] == [getattr(each, "org_id", None) for each in found.values()]
    assert ResolvedOrg("org-a", "r", 7) == found.value(keys[2])
    assert [keys[1]] == list(found.failed)


async def test_a_batch_is_typed_raises_when_asked_to_and_shows_no_secret(
    asynchronous: AsyncClient, blocking: Client
) -> None:
    keys = [("acme", Provider.VAPI), ("nobody", Provider.VAPI)]
    found = assert_type(await asynchronous.get_many(keys), Batch[tuple[str, Provider], ActiveCredential[Credential]])
    assert_type(found["acme", Provider.VAPI], ActiveCredential[Credential] | TenantVaultError)
    assert_type(found.value(keys[0]), ActiveCredential[Credential])
    assert_type(blocking.resolve_orgs([]), Batch[tuple[ResourceKind, str], ResolvedOrg])

    assert "acme" == found.value(keys[0]).org_id
    with pytest.raises(CredentialNotFound, match="Connect it first") as caught:
        found.value(keys[1])
    assert caught.value is not found[keys[1]]
    with pytest.raises(KeyError):
        found.value(("globex", Provider.VAPI))
    assert (2, "Batch(found=1, failed=1)") == (len(found), repr(found))


async def test_no_keys_make_no_call(client: Any, wire: Any) -> None:
    assert {} == dict(await client.get_many(iter([])))
    assert [] == wire.calls


async def test_a_key_that_comes_twice_is_asked_for_once(client: Any, wire: Any) -> None:
    found = await client.get_many([("acme", Provider.VAPI)] * 3)

    assert (1, [1]) == (len(found), numbers(wire))


async def test_more_than_a_thousand_are_several_calls(client: Any, wire: Any) -> None:
    keys = [(f"o{number}", Provider.VAPI) for number in range(2001)]

    found = await client.get_many(iter(keys))

    assert [1000, 1000, 1] == numbers(wire)
    assert keys == [(each.org_id, each.provider) for each in found.found.values()]


async def test_the_calls_share_one_deadline(client: Any, wire: Any) -> None:
    await client.get_many([(f"o{number}", Provider.VAPI) for number in range(1001)], deadline=9)

    first, second = (call.options["timeout"] for call in wire.calls)
    assert second < first <= 9


async def test_a_malformed_key_has_an_error_of_its_own_and_is_not_sent(client: Any, wire: Any) -> None:
    keys = [("Acme", Provider.VAPI), ("acme", "nexmo"), ("acme", Provider.VAPI), "acme", ("acme",)]

    found = await client.get_many(keys)

    assert [["org_id"], ["provider"], None, ["keys"], ["keys"]] == [
        list(each.fields) if isinstance(each, InvalidRequest) else None for each in found.values()
    ]
    assert [1] == numbers(wire)
    resolved = await client.resolve_orgs([("assistant", "a"), (ResourceKind.PHONE_NUMBER, ""), None])
    assert [["kind"], ["resource_id"], ["keys"]] == [list(each.fields) for each in resolved.values()]


@pytest.mark.parametrize("keys", [None, 7, [["acme", Provider.VAPI]], [("acme", [])]])
async def test_what_are_no_keys_at_all_is_refused(client: Any, wire: Any, keys: Any) -> None:
    with pytest.raises(InvalidRequest, match="keys"):
        await client.get_many(keys)

    assert [] == wire.calls


@pytest.mark.parametrize("option", [{"deadline": 0}, {"max_staleness": -1}])
async def test_a_bad_option_is_refused(client: Any, wire: Any, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(option))):
        await client.get_many([("acme", Provider.VAPI)], **option)

    assert [] == wire.calls


async def test_a_call_that_fails_is_the_outcome_of_its_keys_alone(client: Any, wire: Any) -> None:
    keys = [(f"o{number}", Provider.VAPI) for number in range(1500)]
    wire.answer = lambda call: client.refused(VaultUnavailable("Away.")) if len(wire.calls) == 1 else answer(call)

    found = await client.get_many(keys)

    assert keys[:1000] == list(found.failed)
    assert {"Away."} == {each.message for each in found.failed.values()}
    assert 1000 == len({id(each) for each in found.failed.values()})
    assert keys[1000:] == list(found.found)


async def test_a_deadline_that_is_over_is_the_outcome_of_what_was_not_asked(client: Any, wire: Any) -> None:
    wire.answer = client.failed(grpc.StatusCode.DEADLINE_EXCEEDED)

    found = await client.get_many([("acme", Provider.VAPI)])

    assert [DeadlineExceeded] == [type(each) for each in found.values()]


async def test_a_provider_that_this_service_may_not_ask_for_does_not_deny_the_others(client: Any, wire: Any) -> None:
    keys = [("a", Provider.VAPI), ("b", Provider.TWILIO), ("c", Provider.VAPI)]

    def deny_twilio(call: Any) -> Any:
        if any(key.provider == pb.PROVIDER_TWILIO for key in call.request.keys):
            return client.refused(PermissionDenied())
        return answer(call)

    wire.answer = deny_twilio
    found = await client.get_many(keys)

    assert [keys[0], keys[2]] == list(found.found)
    assert [PermissionDenied] == [type(each) for each in found.failed.values()]
    assert [3, 2, 1] == numbers(wire)


@pytest.mark.parametrize(
    "outcomes",
    [
        [],
        [access.CredentialOutcome()],
        [outcome(access.CredentialKey(org_id="globex", provider=pb.PROVIDER_VAPI))],
        [outcome(access.CredentialKey(org_id="acme", provider=pb.PROVIDER_TWILIO))],
        [access.CredentialOutcome(failure=FAILURES["new"])],
        [outcome(access.CredentialKey(org_id="acme", provider=pb.PROVIDER_VAPI))] * 2,
    ],
)
async def test_an_answer_to_something_else_is_an_error(
    client: Any, wire: Any, outcomes: list[access.CredentialOutcome]
) -> None:
    wire.answer = access.BatchGetCredentialsResponse(outcomes=outcomes)

    found = await client.get_many([("acme", Provider.VAPI)])

    assert [InternalError] == [type(each) for each in found.values()]


async def test_a_vault_that_takes_no_call_of_this_client_raises(client: Any, wire: Any) -> None:
    wire.answer = client.refused(InvalidRequest("Set a timeout."))
    with pytest.raises(InvalidRequest, match="Set a timeout"):
        await client.get_many([("acme", Provider.VAPI)])

    await client.close()
    with pytest.raises(InvalidRequest, match="closed"):
        await client.get_many([("acme", Provider.VAPI)])


async def test_what_is_in_memory_is_not_asked_for_and_what_is_asked_for_is_remembered(
    remembering: Any, wire: Any
) -> None:
    single = await remembering.vapi("acme")
    found = await remembering.get_many([("globex", Provider.VAPI), ("acme", Provider.VAPI)])

    assert single is found["acme", Provider.VAPI]
    assert ["globex"] == [key.org_id for key in wire.calls[1].request.keys]
    assert found["globex", Provider.VAPI] is await remembering.get("globex", Provider.VAPI)
    again = await remembering.get_many(found)
    assert dict(found) == dict(again)
    assert 2 == len(wire.calls)
    assert (4, 2) == (remembering.statistics.hits, remembering.statistics.misses)


async def test_resources_are_remembered_too(remembering: Any, wire: Any) -> None:
    keys = [(ResourceKind.PHONE_NUMBER, "a"), (ResourceKind.PHONE_NUMBER, "nobodys")]
    found = await remembering.resolve_orgs(keys)
    assert found[keys[0]] is await remembering.resolve_org(*keys[0])
    await remembering.resolve_orgs(keys)

    assert [["a", "nobodys"], ["nobodys"]] == [[key.resource_id for key in call.request.keys] for call in wire.calls]


async def test_a_batch_may_say_how_old_its_answers_may_be(remembering: Any, wire: Any) -> None:
    await remembering.vapi("acme")
    await remembering.get_many([("acme", Provider.VAPI)], max_staleness=0)

    assert 2 == len(wire.calls)
    assert wire.calls[1].request.HasField("max_staleness")
    assert Duration() == wire.calls[1].request.max_staleness


@pytest.mark.parametrize("whole", [True, False])
async def test_what_was_current_is_given_when_the_vault_cannot_answer(
    remember: Any, wire: Any, clock: Any, whole: Any
) -> None:
    client = remember(cache=CacheSettings(max_stale=60))
    client.memory.heard()
    keys = [("acme", Provider.VAPI), ("globex", Provider.VAPI)]
    await client.vapi("acme")
    clock.now += 10
    failed = access.CredentialOutcome(failure=FAILURES["broken"])
    wire.answer = (
        client.failed(grpc.StatusCode.UNAVAILABLE)
        if whole
        else access.BatchGetCredentialsResponse(outcomes=[failed, failed])
    )

    found = await client.get_many(keys)

    assert found.value(keys[0]).served_stale
    assert [VaultUnavailable] == [type(each) for each in found.failed.values()]


@pytest.mark.parametrize("verb", ["get_many", "resolve_orgs"])
async def test_a_call_whose_keys_can_all_be_given_as_they_were_waits_for_no_connection(
    remember: Any, wire: Any, clock: Any, verb: str
) -> None:
    client = remember(cache=CacheSettings(max_stale=60))
    client.memory.heard()
    kind: Any = Provider.VAPI if verb == "get_many" else ResourceKind.PHONE_NUMBER
    many = {f"a{number}": (f"a{number}", kind) if verb == "get_many" else (kind, f"a{number}") for number in range(3)}
    await getattr(client, verb)([many["a0"], many["a1"]])
    clock.now += 10
    wire.calls.clear()
    wire.answer = client.failed(grpc.StatusCode.UNAVAILABLE)

    found = await getattr(client, verb)([many["a0"], many["a1"]])
    assert [True, True] == [each.served_stale for each in found.values()]
    await getattr(client, verb)(many.values())
    clock.now += 60
    await getattr(client, verb)([many["a0"], many["a1"]])
    assert [False, True, True] == [call.options["wait_for_ready"] for call in wire.calls]


async def test_how_old_an_answer_may_be_says_whether_a_batch_waits_for_a_connection(
    remember: Any, wire: Any, clock: Any
) -> None:
    client = remember(cache=CacheSettings(max_stale=60))
    client.memory.heard()
    await client.get_many([("acme", Provider.VAPI)])
    clock.now += 10
    wire.calls.clear()
    for oldest in (10, 11):
        await client.get_many([("acme", Provider.VAPI)], max_staleness=oldest)

    assert [True, False] == [call.options["wait_for_ready"] for call in wire.calls]
