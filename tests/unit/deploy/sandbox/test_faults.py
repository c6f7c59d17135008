from typing import Any

import pytest

from deploy.sandbox.faults import Fault, Faults
from deploy.sandbox.journal import Exchange

CREATE = Exchange(provider="vapi", method="POST", path="/assistant", account="a")
PROVIDERS = ("vapi", "twilio")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], "JSON object"),
        ({"provider": "vapi", "when": "now"}, "unknown field 'when'"),
        ({}, "provider is one of vapi, twilio"),
        ({"provider": "acme"}, "provider is one of vapi, twilio"),
        ({"provider": 1}, "provider has the wrong type"),
        ({"provider": "vapi", "times": "1"}, "times has the wrong type"),
        ({"provider": "vapi", "times": True}, "times has the wrong type"),
        ({"provider": "vapi", "times": 0}, "times is at least 1"),
        ({"provider": "vapi", "delay": -1}, "not negative"),
        ({"provider": "vapi", "retry_after": -1}, "not negative"),
        ({"provider": "vapi", "status": 199}, "HTTP status"),
        ({"provider": "vapi", "drop": True, "status": 500}, "not both"),
    ],
)
def test_a_bad_order_is_refused_with_a_sentence(value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Fault.from_json(value, providers=PROVIDERS)


def test_an_order_needs_only_a_provider() -> None:
    assert Fault(provider="vapi") == Fault.from_json({"provider": "vapi"}, providers=PROVIDERS)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({}, True),
        ({"method": "POST", "path": "/assistant", "account": "a"}, True),
        ({"path": "/assist*"}, True),
        ({"provider": "twilio"}, False),
        ({"method": "GET"}, False),
        ({"path": "/assistant/*"}, False),
        ({"account": "b"}, False),
    ],
)
def test_a_fault_is_for_the_requests_that_match_all_of_it(wanted: dict[str, Any], *, matches: bool) -> None:
    assert matches == Fault(**{"provider": "vapi", **wanted}).matches(CREATE)


def test_faults_are_used_up_oldest_first() -> None:
    faults = Faults()
    faults.add(Fault(provider="twilio", status=500))
    faults.add(Fault(provider="vapi", status=501, times=2))
    faults.add(Fault(provider="vapi", status=503))

    taken = [faults.take(CREATE) for _ in range(4)]

    assert [501, 501, 503, None] == [fault and fault.status for fault in taken]
    assert ["twilio"] == [entry["provider"] for entry in faults.entries()]
