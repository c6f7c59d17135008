"""A secret shows itself to reveal() and to nothing else."""

import copy
import dataclasses
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenantvault import ActiveCredential, Provider, Secret, TwilioCredential, VapiCredential
from tenantvault.secret import MASK

CANARY = "canary-7f3c2a-canary"

HOLDERS: dict[str, Callable[[], Any]] = {
    "the secret": lambda: Secret(CANARY),
    "a list": lambda: [Secret(CANARY)],
    "a Vapi credential": lambda: VapiCredential(api_key=Secret(CANARY), webhook_secret=Secret(CANARY)),
    "a Twilio credential": lambda: TwilioCredential(
        account_sid="AC", auth_token=Secret(CANARY), api_key_secret=Secret(CANARY), phone_number="+1"
    ),
    "an active credential": lambda: ActiveCredential(
        org_id="acme",
        provider=Provider.VAPI,
        version=1,
        credential=VapiCredential(api_key=Secret(CANARY)),
        resources=(),
        last_verified_at=None,
        generation=1,
    ),
}

SHOWN: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": format,
    "f-string": lambda value: f"{value} {value!r} {value!s}",
    "%s": lambda value: "%s %r" % (value, value),  # noqa: UP031  # the old form is what is tested
    "str.format": "{0} {0!r}".format,
    "pprint": pprint.pformat,
    "a log record": lambda value: logging.LogRecord("n", 0, "p", 1, "%s %r", (value, value), None).getMessage(),
    "json with str": lambda value: json.dumps({"value": value}, default=str),
    "json with repr": lambda value: json.dumps({"value": value}, default=repr),
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_it_is_masked_however_it_is_shown(holder: Callable[[], Any], show: Callable[[Any], str]) -> None:
    shown = show(holder())

    assert CANARY not in shown
    assert MASK in shown or MASK.encode("unicode_escape").decode() in shown


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_pickled(holder: Callable[[], Any], protocol: int) -> None:
    with pytest.raises(TypeError) as caught:
        pickle.dumps(holder(), protocol)

    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_it_cannot_be_copied_deeply(holder: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        copy.deepcopy(holder())


def test_it_cannot_be_copied() -> None:
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        copy.copy(Secret(CANARY))


@pytest.mark.parametrize("holder", list(HOLDERS.values())[2:], ids=list(HOLDERS)[2:])
def test_a_dataclass_that_holds_it_does_not_become_a_dict(holder: Callable[[], Any]) -> None:
    with pytest.raises(TypeError):
        dataclasses.asdict(holder())


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_it_does_not_become_json(holder: Callable[[], Any]) -> None:
    with pytest.raises(TypeError) as caught:
        json.dumps(holder())

    assert CANARY not in str(caught.value)


def test_it_is_masked_in_a_traceback_with_local_variables() -> None:
    def fail(secret: Secret, credential: VapiCredential) -> None:
        raise RuntimeError(f"no {secret} {credential}")

    try:
        fail(Secret(CANARY), VapiCredential(api_key=Secret(CANARY)))
    except RuntimeError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())

    assert "secret = Secret" in text
    assert CANARY not in text


def test_it_cannot_be_hashed_and_has_no_dictionary() -> None:
    with pytest.raises(TypeError):
        hash(Secret(CANARY))
    with pytest.raises(TypeError):
        vars(Secret(CANARY))


def test_a_text_is_the_bare_mask_which_a_format_may_pad() -> None:
    assert MASK == str(Secret(CANARY))
    assert f"      {MASK}" == f"{Secret(CANARY):>10}"


@given(st.text())
def test_it_reveals_what_it_was_given(value: str) -> None:
    assert value == Secret(value).reveal()
    assert bool(value) == bool(Secret(value))


@example("\ud800", "")
@example("", "\ud800")
@given(st.text(), st.text())
def test_two_are_equal_when_what_they_hold_is(one: str, other: str) -> None:
    assert (one == other) == (Secret(one) == Secret(other))
    assert Secret(one) == Secret(one)


def test_it_equals_nothing_that_is_no_secret() -> None:
    assert Secret(CANARY) != CANARY


@pytest.mark.parametrize(
    ("value", "hint"), [("", MASK), ("elevenchars", MASK), ("twelve_chars", MASK + "hars"), (CANARY, MASK + "nary")]
)
def test_a_hint_leaves_most_of_it_unknown(value: str, hint: str) -> None:
    assert hint == Secret(value).hint()
