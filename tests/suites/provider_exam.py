"""What every provider must do. A test module gives the fixture `case` and imports all of this.

A provider stands before its vendor, an HTTP API in memory, and then before one that fails in every way in which HTTP
can fail. What must hold: a definite no is a value, no answer is an exception and never a no, nothing is made twice,
letting go never fails, and no secret is seen.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, get_args
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from services.provider.outbound import LARGEST_ANSWER, Outbound, new_client
from services.provider.provider import Accepted, Provisioned, Refused, pass_by
from services.provider.provider import Provider as Port
from tenantvault._status import to_status
from tenantvault.credentials import Credential, Resource
from tenantvault.credentials import Provider as Name
from tenantvault.errors import InvalidRequest, ProviderRefused, ProviderUnreachable, RateLimited, TenantVaultError
from tenantvault.secret import Secret

Handler = Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]

CANARY: Final = "c4n4ry-of-the-vendor"
"""A text in the vendor's failures that must be seen nowhere."""

ELSEWHERE: Final = "elsewhere.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A provider to examine.

    `provider` makes it; its own pauses must take no time. `credential` is one that the vendor takes, with every secret
    field filled in that a customer may fill in. `vendor` gives a fresh one; `knows_no_key` is its answer to a key that
    it does not know. `code` is one of a consent that the vendor takes.
    """

    provider: Callable[[Outbound], Port[Any]]
    credential: Credential
    vendor: Callable[[], Handler]
    knows_no_key: Handler
    code: str = ""


class World:
    """A provider before its vendor. Whatever `answer` is set to is what the vendor answers from then on."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.answer: Handler | None = None
        self.requests: list[httpx.Request] = []
        self._vendor = case.vendor()
        outbound = Outbound(new_client(httpx.MockTransport(self._handle)), sleep=_no_sleep)
        self.provider = case.provider(outbound)

    async def connected(self, newest: Credential | None = None) -> tuple[Any, tuple[Resource, ...]]:
        """The credential and the resources as they are after a connect."""
        credential = self.provider.normalise(self.case.credential)
        assert isinstance(await self.provider.test(credential), Accepted)
        credential = await self.complete(credential, newest)
        return credential, (await self.provision(credential)).resources

    async def complete(self, credential: Credential, newest: Credential | None = None) -> Any:
        async def read() -> Credential | None:
            return newest

        return await self.provider.complete("acme", credential, read)

    async def provision(self, credential: Credential, *known: Resource) -> Provisioned:
        made = await self.provider.provision("acme", credential, known=known, checkpoint=pass_by)
        left = await made.finish(None) if made.finish else ()
        assert all(is_sentence(each) for each in left)
        return replace(made, warnings=made.warnings + left)

    def changes(self) -> list[str]:
        """The requests that may have changed something at the vendor."""
        return [f"{each.method} {each.url.path}" for each in self.requests if each.method not in {"GET", "HEAD"}]

    async def verbs(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Everything that asks the vendor and may raise, ready to be called after a connect."""
        provider = self.provider
        credential, known = await self.connected()
        verbs: dict[str, Callable[[], Awaitable[object]]] = {
            "test": lambda: provider.test(credential),
            "complete": lambda: self.complete(provider.normalise(self.case.credential)),
            "provision": lambda: self.provision(credential),
            "provision what is known": lambda: self.provision(credential, *known),
            "inspect": lambda: provider.inspect("acme", credential, known=known),
        }
        if (consent := provider.consent) is not None:
            verbs["redeem"] = lambda: consent.redeem(code=self.case.code, state="state")
            verbs["refresh"] = lambda: consent.refresh(credential)
        if (rotation := provider.rotation) is not None and rotation.possible(credential):
            issued = await rotation.issue("acme", credential)
            assert not isinstance(issued, Refused)
            verbs["issue"] = lambda: rotation.issue("acme", credential)
            verbs["discard"] = lambda: rotation.discard(credential, issued)
            verbs["retire"] = lambda: rotation.retire(issued, rotation.trace(credential))
        return verbs

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = (self.answer or self._vendor)(request)
        return answer if isinstance(answer, httpx.Response) else await answer


async def _no_sleep(seconds: float) -> None:
    del seconds


def _raising(kind: type[httpx.RequestError]) -> Handler:
    def fail(request: httpx.Request) -> httpx.Response:
        raise kind(CANARY, request=request)

    return fail


def _html(status: int) -> Handler:
    return lambda _: httpx.Response(status, html=f"<html><body>{CANARY}</body></html>")


def _json(status: int, body: object, **headers: str) -> Handler:
    return lambda _: httpx.Response(status, json=body, headers=headers)


NO_ANSWER: Final[dict[str, Handler]] = {
    "408": _json(408, {"message": CANARY}),
    "500": _json(500, {"message": CANARY}),
    "500 without a body": lambda _: httpx.Response(500),
    "502": _html(502),
    "503": _html(503),
    "520": _html(520),
    "a proxy's 401": _html(401),
    "a proxy's 403": _html(403),
    "301": _json(301, {"message": CANARY}, Location=f"https://{ELSEWHERE}/"),
    "302": lambda _: httpx.Response(302, headers={"Location": f"https://{ELSEWHERE}/?{CANARY}"}),
    "307": lambda _: httpx.Response(307, headers={"Location": f"https://{ELSEWHERE}/"}),
    "304": lambda _: httpx.Response(304),
    "a page": _html(200),
    "a huge body": lambda _: httpx.Response(200, content=b" " * (LARGEST_ANSWER + 1)),
    "a compressed body": lambda _: httpx.Response(200, headers={"Content-Encoding": "br"}, content=b"x"),
    "no connection": _raising(httpx.ConnectError),
    "no connection in time": _raising(httpx.ConnectTimeout),
    "no answer in time": _raising(httpx.ReadTimeout),
    "half an answer": _raising(httpx.RemoteProtocolError),
    "429": _json(429, {"message": CANARY}),
}
"""What says nothing about a credential."""

ANSWERS: Final[dict[str, Handler]] = NO_ANSWER | {
    "400": _json(400, {"message": CANARY, "error": CANARY, "detail": CANARY}),
    "401": _json(401, {"message": CANARY, "error": {"message": CANARY}, "detail": {"message": CANARY}}),
    "403": _json(403, {"message": [CANARY], "error": CANARY}),
    "404": _json(404, {"message": CANARY}),
    "409": _json(409, {"message": CANARY}),
    "418": _json(418, {"message": CANARY}),
    "422": _json(422, {"message": CANARY}),
    "nothing": _json(200, None),
    "a list": _json(200, [CANARY, {"id": CANARY}, None, [CANARY]]),
    "an object": _json(200, {"id": CANARY, "status": CANARY, "data": [CANARY], "token": CANARY}),
    "a text": _json(200, CANARY),
    "success without a body": lambda _: httpx.Response(204),
}
"""All of that, and what may be a definite no, or a yes that makes no sense."""

HABITS: Final = ("{}", "  {}\n", '"{}"', "'{}'", "\u201c{}\u201d", "\ufeff{}\u200b", "\t'{}' \r\n")
"""What copying and pasting leaves around a value."""

NASTY: Final = (
    "",
    " ",
    "x",
    "Bearer ",
    "''''",
    "two words",
    "line\nbreak",
    "\x00" * 30,
    "ключ" * 10,
    "y" * 5000,
    "\ud800",
)
"""What is typed into fields, too."""


@pytest.fixture
def world(case: Case) -> World:
    return World(case)


def camel(name: str) -> str:
    """A field's name in the spelling of the REST interface."""
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def with_text(credential: Any, name: str, text: str) -> Any:
    """The credential with another text in a field."""
    is_secret = isinstance(getattr(credential, name), Secret)
    return replace(credential, **{name: Secret(text) if is_secret else text})


def text_in(credential: Any, name: str) -> str:
    value = getattr(credential, name)
    text: str = value.reveal() if isinstance(value, Secret) else value
    return text


def normalised(provider: Port[Any], credential: Any) -> tuple[Any, InvalidRequest | None]:
    """What a credential becomes, or why it does not become anything."""
    try:
        return provider.normalise(credential), None
    except InvalidRequest as error:
        return None, error


def secrets_of(value: Any) -> Iterator[str]:
    """Every secret text in a credential, also in what it holds."""
    for each in fields(value):
        found = getattr(value, each.name)
        if isinstance(found, Secret) and found:
            yield found.reveal()
        for inner in found if isinstance(found, tuple) else ():
            if hasattr(inner, "__dataclass_fields__"):
                yield from secrets_of(inner)


def is_sentence(text: str) -> bool:
    """Whether it can be shown to people: it begins with a capital and ends with a full stop, or with an address."""
    return re.fullmatch(r"[A-Z\"].{10,400}([.?]|https://\S+)", text) is not None


def test_its_name_and_its_credential_are_of_the_contract(world: World) -> None:
    assert isinstance(world.provider.name, Name)
    assert world.provider.credential in get_args(Credential)
    assert isinstance(world.case.credential, world.provider.credential)


def test_its_description_speaks_of_its_credential(world: World) -> None:
    described = world.provider.description
    of_credential = {each.name: each for each in fields(world.provider.credential)}
    names = [each.name for each in described.fields]
    assert sorted(set(names)) == sorted(names)
    assert set(names) <= set(of_credential)
    for each in described.fields:
        assert each.secret == isinstance(getattr(world.case.credential, each.name), Secret), each.name
        assert not (each.required and (each.choices or each.way)), each.name
        assert not (each.made_up and not each.secret), each.name
    if world.provider.consent is None:
        assert any(each.required for each in described.fields)
    else:
        assert () == described.fields
        assert described.asks_for


def test_its_description_can_be_shown_to_people(world: World) -> None:
    described = world.provider.description
    assert described.title
    assert all(
        is_sentence(text)
        for text in (described.summary, described.next, *described.asks_for, *described.never_asks_for)
    )
    for each in described.fields:
        assert each.label
        assert is_sentence(each.hint), each.hint
    links = [described.console_url, *(each.help_url for each in described.fields if each.help_url)]
    assert all(urlsplit(link).scheme == "https" and urlsplit(link).hostname for link in links)


def test_its_patterns_let_a_good_credential_through(world: World) -> None:
    for each in world.provider.description.fields:
        text = text_in(world.case.credential, each.name)
        if each.pattern and text:
            assert re.fullmatch(each.pattern, text), each.name
            assert not re.search(r"\(\?[P<#ims]|\\[AZzh]", each.pattern), "not in the syntax that JavaScript has too"
            # Browsers compile it with the flag `v`, which wants these escaped in a class.
            for inside in re.findall(r"(?<!\\)\[((?:\\.|[^\]\\])*)\]", each.pattern):
                assert not re.search(r"(?<!\\)[(){}/|]", inside), each.pattern
        if each.choices and text:
            assert text in each.choices


@pytest.mark.parametrize("habit", HABITS)
def test_what_is_pasted_around_a_value_is_left_out(world: World, habit: str) -> None:
    good = world.provider.normalise(world.case.credential)
    for each in world.provider.description.fields:
        if text := text_in(good, each.name):
            assert good == world.provider.normalise(with_text(good, each.name, habit.format(text))), each.name


@pytest.mark.parametrize("habit", ["Bearer {}", "bearer  {}", '"Bearer {}"', "Bearer '{}'"])
def test_a_pasted_bearer_is_left_out_of_secrets(world: World, habit: str) -> None:
    good = world.provider.normalise(world.case.credential)
    for each in world.provider.description.fields:
        if each.secret and (text := text_in(good, each.name)):
            assert good == world.provider.normalise(with_text(good, each.name, habit.format(text))), each.name


@pytest.mark.parametrize("text", NASTY)
def test_what_is_typed_is_refused_by_field_or_good_for_ever(world: World, text: str) -> None:
    good = world.provider.normalise(world.case.credential)
    described = {camel(each.name) for each in world.provider.description.fields}
    assert good == world.provider.normalise(good)
    for each in world.provider.description.fields:
        typed = with_text(good, each.name, text)
        meant, error = normalised(world.provider, typed)
        if error is None:
            assert meant == world.provider.normalise(meant)
        else:
            assert error.fields
            assert set(error.fields) <= described
            assert all(is_sentence(sentence) for sentence in error.fields.values())
            assert len(text) < 20 or text not in f"{error} {dict(error.fields)}"


async def test_a_good_credential_is_accepted(world: World) -> None:
    verdict = await world.provider.test(world.provider.normalise(world.case.credential))
    assert isinstance(verdict, Accepted)
    assert all(is_sentence(warning) for warning in verdict.warnings)
    assert [] == [change for change in world.changes() if not change.startswith("POST")]


async def test_a_key_that_is_not_known_is_refused_by_its_field(world: World) -> None:
    world.answer = world.case.knows_no_key
    verdict = await world.provider.test(world.provider.normalise(world.case.credential))
    assert isinstance(verdict, Refused)
    assert verdict.is_about_the_credential
    assert is_sentence(verdict.sentence)
    described = {camel(each.name) for each in world.provider.description.fields}
    assert verdict.field in (described or {""})


@pytest.mark.parametrize("answer", NO_ANSWER.values(), ids=list(NO_ANSWER))
async def test_no_answer_is_no_verdict_and_never_a_no(world: World, answer: Handler) -> None:
    verbs = await world.verbs()
    world.answer = answer
    for name, verb in verbs.items():
        world.requests.clear()
        try:
            outcome = await verb()
        except ProviderUnreachable:
            continue
        except ProviderRefused as error:
            pytest.fail(f"{name} takes it for a no: {error.reason}")
        assert not isinstance(outcome, Refused), f"{name} takes it for a no"
        is_told = isinstance(outcome, Provisioned) and outcome.warnings
        assert is_told or not world.requests, f"{name} takes it for a yes"


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
async def test_whatever_is_answered_is_a_verdict_or_an_error(world: World, answer: Handler) -> None:
    credential = world.provider.normalise(world.case.credential)
    world.answer = answer
    with suppress(TenantVaultError):
        verdict = await world.provider.test(credential)
        assert isinstance(verdict, Refused), "none of these is a yes"
        assert is_sentence(verdict.sentence)


async def test_what_asks_to_slow_down_is_told_so(world: World) -> None:
    credential = world.provider.normalise(world.case.credential)
    world.answer = lambda _: httpx.Response(429, json={"message": CANARY}, headers={"Retry-After": "7"})
    with pytest.raises(RateLimited) as caught:
        await world.provider.test(credential)
    assert 7.0 == caught.value.retry_after


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_credential_follows_no_redirect(world: World, status: int) -> None:
    verbs = await world.verbs()
    world.requests.clear()
    world.answer = lambda _: httpx.Response(status, headers={"Location": f"https://{ELSEWHERE}/"})
    for verb in verbs.values():
        with suppress(ProviderUnreachable):
            await verb()
    assert ELSEWHERE not in {request.url.host for request in world.requests}


async def test_no_secret_is_in_a_url(world: World) -> None:
    credential, _ = await world.connected()
    for verb in (await world.verbs()).values():
        with suppress(ProviderRefused):  # e.g. of a successor that was discarded before
            await verb()
    urls = " ".join(str(request.url) for request in world.requests)
    assert [] == [secret for secret in secrets_of(credential) if secret in urls]


async def test_what_is_made_is_made_once(world: World) -> None:
    credential, resources = await world.connected()
    assert len({(each.kind, each.resource_id) for each in resources}) == len(resources)
    world.requests.clear()
    for known in ((), resources):
        assert resources == (await world.provision(credential, *known)).resources
    assert [] == world.changes()
    assert () == await world.provider.inspect("acme", credential, known=resources)


async def test_a_connect_that_is_repeated_stores_the_same_and_makes_nothing(world: World) -> None:
    first = await world.connected()
    world.requests.clear()
    assert first == await world.connected(newest=first[0])
    assert [] == [change for change in world.changes() if not change.endswith("/token")]


async def test_what_is_chosen_in_the_customers_stead_needs_no_more_choosing(world: World) -> None:
    credential, _ = await world.connected()
    assert credential == await world.complete(credential, credential)


async def test_letting_go_takes_back_what_was_made(world: World) -> None:
    credential, resources = await world.connected()
    for _ in range(2):
        assert () == await world.provider.release("acme", credential, known=resources)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
async def test_letting_go_never_fails(world: World, answer: Handler) -> None:
    credential, resources = await world.connected()
    world.answer = answer
    for known in (resources, (), resources):
        left = await world.provider.release("acme", credential, known=known)
        assert isinstance(left, tuple)
        assert all(is_sentence(sentence) for sentence in left)
    world.answer = None
    assert () == await world.provider.release("acme", credential, known=resources)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
async def test_no_secret_is_seen(world: World, answer: Handler, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        levels = {name: logging.getLogger(name).level for name in ("httpx", "httpcore")}
        verbs = await world.verbs()
        credential, known = await world.connected()
        world.answer = answer
        seen = [repr((world.provider, world.provider.description, credential, known))]
        for verb in verbs.values():
            try:
                seen.append(repr(await verb()))
            except TenantVaultError as error:
                seen.append(f"{error!r} {error} {dict(error.fields)} {to_status(error)}")
        seen.append(repr(await world.provider.release("acme", credential, known=known)))
        seen.append(caplog.text + repr([vars(record) for record in caplog.records]))
    assert {"httpx": logging.WARNING, "httpcore": logging.WARNING} == levels
    text = " ".join(seen)
    assert "provider call" in text
    assert CANARY not in text
    assert [] == [secret for secret in secrets_of(credential) if secret in text]


async def test_a_rotation_goes_round(world: World) -> None:
    rotation = world.provider.rotation
    credential, resources = await world.connected()
    if rotation is None or not rotation.possible(credential):
        assert rotation is None
        return
    current = credential
    for _ in range(2):
        trace = rotation.trace(current)
        assert len(trace) <= 100
        assert not [secret for secret in secrets_of(current) if secret in trace]
        unused = await rotation.issue("acme", current)
        assert not isinstance(unused, Refused)
        for _ in range(2):
            await rotation.discard(current, unused)
        issued = await rotation.issue("acme", current)
        assert not isinstance(issued, Refused)
        assert issued != current
        for each in (current, issued):
            assert isinstance(await world.provider.test(each), Accepted)
        for _ in range(2):
            assert all(is_sentence(sentence) for sentence in await rotation.retire(issued, trace))
        assert isinstance(await world.provider.test(issued), Accepted)
        assert issued == world.provider.normalise(issued) or resources
        current = issued


async def test_a_consent_is_asked_for_without_a_secret(world: World) -> None:
    consent = world.provider.consent
    if consent is None:
        assert world.provider.description.fields
        return
    credential, _ = await world.connected()
    url = urlsplit(consent.authorization_url(state="a-state"))
    query = parse_qs(url.query)
    assert ("https", ["a-state"], ["S256"]) == (url.scheme, query["state"], query["code_challenge_method"])
    assert url.query != urlsplit(consent.authorization_url(state="another")).query
    assert not [secret for secret in secrets_of(credential) if secret in url.query]
    for word in ("access_denied", "anything", ""):
        assert is_sentence(consent.denied(word).message)
    redeemed = await consent.redeem(code=world.case.code, state="a-state")
    for issued in (redeemed, await consent.refresh(credential)):
        assert isinstance(issued, world.provider.credential)
        assert isinstance(moment := consent.expires_at(issued), datetime)
        assert moment.tzinfo is not None
    world.answer = world.case.knows_no_key
    assert isinstance(await consent.redeem(code=world.case.code, state="a-state"), Refused)
    refused = await consent.refresh(credential)
    assert isinstance(refused, Refused)
    assert refused.is_about_the_credential
