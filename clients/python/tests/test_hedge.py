"""A read that gets no answer soon enough is asked a second time, over another connection; nothing else is."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from tenantvault import AsyncClient, Client, Provider
from tenantvault._hedge import Asking, first_answer
from tenantvault.errors import CredentialNotFound, InvalidRequest, TenantVaultError, VaultUnavailable
from tenantvault.v1 import access_service_pb2 as access

NEVER = 119.0
AT_ONCE = 0.001


class Calls:
    """Calls that end as they are told: with an answer, an error, or when they are cancelled."""

    def __init__(self) -> None:
        self.under_way: list[asyncio.Future[str]] = []
        self.second = asyncio.Event()

    async def __call__(self, number: int) -> str:
        self.under_way.append(asyncio.get_running_loop().create_future())
        if number:
            self.second.set()
        return await self.under_way[number]


async def test_an_answer_in_time_is_not_asked_for_again() -> None:
    async def ask(number: int) -> int:
        return number

    assert 0 == await first_answer(ask, NEVER)


async def test_an_error_in_time_is_raised() -> None:
    async def ask(_: int) -> int:
        raise VaultUnavailable

    with pytest.raises(VaultUnavailable):
        await first_answer(ask, NEVER)


@pytest.mark.parametrize("winner", [0, 1])
async def test_the_first_answer_wins_and_the_other_call_is_ended(winner: int) -> None:
    calls = Calls()
    asked = asyncio.create_task(first_answer(calls, AT_ONCE))
    await calls.second.wait()
    calls.under_way[winner].set_result("answer")

    assert "answer" == await asked
    await asyncio.sleep(0)
    assert calls.under_way[1 - winner].cancelled()


@pytest.mark.parametrize("winner", [0, 1])
async def test_that_the_vault_is_unavailable_is_no_answer_while_the_other_may_have_one(winner: int) -> None:
    calls = Calls()
    asked = asyncio.create_task(first_answer(calls, AT_ONCE))
    await calls.second.wait()
    calls.under_way[1 - winner].set_exception(VaultUnavailable())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calls.under_way[winner].set_result("answer")

    assert "answer" == await asked


async def test_any_other_error_is_an_answer_and_when_both_are_unavailable_that_is_one() -> None:
    for error in (CredentialNotFound, VaultUnavailable):
        calls = Calls()
        asked = asyncio.create_task(first_answer(calls, AT_ONCE))
        await calls.second.wait()
        calls.under_way[1].set_exception(error())
        if error is VaultUnavailable:
            calls.under_way[0].set_exception(error())
        with pytest.raises(error):
            await asked


async def test_who_gives_up_ends_both_calls() -> None:
    calls = Calls()
    asked = asyncio.create_task(first_answer(calls, AT_ONCE))
    await calls.second.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.sleep(0)

    assert all(call.cancelled() for call in calls.under_way)


@pytest.fixture
def asking(request: pytest.FixtureRequest) -> tuple[Callable[[float | None], Asking], list[Any]]:
    """Makes a hedged call for threads, and the calls that it has begun."""
    future = type(request.getfixturevalue("rpc_future"))
    begun: list[Any] = []

    def ask(_: int) -> Any:
        begun.append(future())
        return begun[-1]

    def error(call: Any) -> TenantVaultError | None:
        return cast("TenantVaultError | None", call.exception())

    return lambda after: Asking(ask, error, after), begun


def test_threads_ask_a_second_time_too_once_and_the_first_answer_wins(asking: Any) -> None:
    make, begun = asking
    call = make(AT_ONCE)
    assert call.wait(0.05) is None
    assert call.wait(0.05) is None
    assert 2 == len(begun)
    begun[1].land("answer")

    assert begun[1] is call.wait(NEVER)
    assert call.done()
    assert begun[0].cancelled()


def test_threads_do_not_ask_again_when_it_is_answered_in_time_or_nobody_waits_so_long(asking: Any) -> None:
    make, begun = asking
    impatient = make(NEVER)
    assert impatient.wait(AT_ONCE) is None
    answered = make(AT_ONCE)
    begun[1].land("answer")

    assert begun[1] is answered.wait(NEVER)
    assert begun[1] is answered.wait(NEVER)
    assert 2 == len(begun)


def test_threads_wait_for_the_other_where_the_vault_was_unavailable_for_one(asking: Any) -> None:
    make, begun = asking
    call = make(AT_ONCE)
    call.wait(0.01)
    begun[0].land(VaultUnavailable())
    assert not call.done()
    begun[1].land("answer")
    assert begun[1] is call.wait(NEVER)

    both = make(AT_ONCE)
    both.wait(0.01)
    begun[3].land(VaultUnavailable())
    begun[2].land(VaultUnavailable())
    assert begun[2] is both.wait(NEVER)

    alone = make(NEVER)
    begun[4].land(VaultUnavailable())
    assert begun[4] is alone.wait(NEVER)


def test_a_definite_error_is_an_answer_to_threads_too(asking: Any) -> None:
    make, begun = asking
    call = make(AT_ONCE)
    call.wait(0.01)
    begun[0].land(CredentialNotFound())

    assert begun[0] is call.wait(NEVER)
    assert begun[1].cancelled()


def test_threads_that_give_up_end_both_calls(asking: Any) -> None:
    make, begun = asking
    call = make(AT_ONCE)
    call.wait(0.01)
    call.cancel()

    assert all(each.cancelled() for each in begun)
    assert call.done()


async def test_the_second_call_of_a_task_has_what_is_left_of_the_deadline(wire: Any, asynchronous: AsyncClient) -> None:
    manner = asynchronous._wire._manner
    asynchronous._wire._manner = replace(manner, hedge_after=0.01)

    async def never(_: Any) -> None:
        await asyncio.get_running_loop().create_future()

    wire.answer = lambda call: never(call) if len(wire.calls) == 1 else CredentialNotFound()
    with pytest.raises(CredentialNotFound):
        await asynchronous.vapi("acme", deadline=NEVER)

    first, second = (call.options["timeout"] for call in wire.calls)
    assert (NEVER, True) == (first, second < NEVER - 0.009)


@pytest.mark.parametrize("hedge_after", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_what_is_no_time_to_wait_is_refused(kind: Any, hedge_after: float) -> None:
    with pytest.raises(InvalidRequest, match="hedge_after"):
        kind(None, hedge_after=hedge_after)


@pytest.mark.parametrize("channels", [0, -1])
@pytest.mark.parametrize("kind", [AsyncClient, Client])
async def test_what_is_no_number_of_connections_is_refused(kind: Any, channels: int) -> None:
    with pytest.raises(InvalidRequest, match="channels"):
        kind.connect("localhost:1", None, channels=channels)


async def test_a_report_is_never_made_twice(remember: Any, wire: Any) -> None:
    client = remember(hedge_after=AT_ONCE, cache=None)
    asked = threading.Event()

    def answer(_: Any) -> Any:
        asked.wait(0.05)
        return access.ReportFailureResponse()

    async def answer_later(_: Any) -> Any:
        await asyncio.sleep(0.05)
        return access.ReportFailureResponse()

    wire.answer = answer_later if isinstance(client.client, AsyncClient) else answer
    await client.report_failure("acme", Provider.VAPI, 1)

    assert 1 == len(wire.calls)
