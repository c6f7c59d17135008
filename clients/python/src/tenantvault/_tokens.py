"""What a Google access token has to be, and how both clients come by one that is."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from tenantvault._failures import Service, bad, no_answer
from tenantvault.credentials import ActiveCredential, GoogleCalendarCredential
from tenantvault.errors import InvalidRequest, ProviderUnknownAnswer
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as integration

MIN_LIFE: Final = 60.0
"""Seconds that an access token lasts at least when nothing else is said."""

# What the provider service promises at most.
_LONGEST_MIN_LIFE: Final = 1800


def utc_now() -> datetime:
    """What this machine's clock says."""
    return datetime.now(UTC)


def end_after(deadline: float) -> float:
    """When a call that begins now is over, by the monotonic clock."""
    return time.monotonic() + deadline


def remaining(ends: float, service: Service) -> float:
    """The seconds until `ends` of the monotonic clock; DeadlineExceeded, by the fault of a service, when it is over."""
    left = ends - time.monotonic()
    if left <= 0:
        raise no_answer(service)
    return left


def least_life(min_life: float) -> timedelta:
    """How long an access token has to last; InvalidRequest when that cannot be promised."""
    try:
        if 1 <= min_life <= _LONGEST_MIN_LIFE:
            return timedelta(seconds=min_life)
    except TypeError:
        pass
    raise bad("min_life", f"Give seconds, from 1 to {_LONGEST_MIN_LIFE}.")


def lasts(found: ActiveCredential[GoogleCalendarCredential], needed: timedelta, now: datetime) -> bool:
    """Whether its access token is good for that long."""
    return found.credential.expires_at - now >= needed


def refresh_request(org_id: str) -> integration.RefreshAccessTokenRequest:
    """The request for a Google access token that is good for every caller, however long it needs it."""
    return integration.RefreshAccessTokenRequest(
        org_id=org_id, provider=pb.PROVIDER_GOOGLE_CALENDAR, min_life=Duration(seconds=_LONGEST_MIN_LIFE)
    )


def nobody_to_refresh() -> InvalidRequest:
    """What a client raises that has to get a new access token, and does not know where."""
    return InvalidRequest(
        "The stored access token ends too soon, and this client does not know the provider service, which gets a new "
        "one: set TENANTVAULT_PROVIDER_TARGET to its host:port, or give provider_target to connect()."
    )


def still_too_short() -> ProviderUnknownAnswer:
    """What a client raises when also a new access token ends too soon."""
    return ProviderUnknownAnswer(
        "The new access token does not last as long as it is needed either: ask for less with min_life, and look at "
        "this machine's clock."
    )
