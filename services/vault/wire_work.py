"""From the contract's requests about work, refreshed tokens and consents to the vault's nouns, with their checks."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from services.vault.wire import org_from, owner_from, payload_from, provider_from, text_from
from services.vault.work import Finish, OAuthState, Piece, ScheduledWork, Task
from tenantvault.errors import InvalidRequest
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb

TASKS: Final[Mapping[int, Task]] = MappingProxyType(
    {store_pb.TASK_VERIFY: Task.VERIFY, store_pb.TASK_REFRESH: Task.REFRESH, store_pb.TASK_ROTATE: Task.ROTATE}
)
"""The task of each number of the contract."""

MAX_ITEMS: Final = 100
MAX_DUE: Final = timedelta(days=3653)
"""Ten years."""

MAX_STATE_SECONDS: Final = 600.0
HASH_BYTES: Final = 32

_MAX_TOKEN_BYTES: Final = 8192


def schedule_from(request: store_pb.RegisterResourcesRequest) -> list[ScheduledWork] | None:
    """An integration's work from now on, None when nothing is said; InvalidRequest for a task that is none, or twice.

    An empty schedule is one: nothing is to be done.
    """
    if not request.HasField("schedule"):
        return None
    schedule = [_scheduled_from(work) for work in request.schedule.work]
    if len({work.task for work in schedule}) < len(schedule):
        raise InvalidRequest(fields={"schedule": "Give each task at most once."})
    return schedule


def task_from(number: int) -> Task:
    """A task; InvalidRequest for none or an unknown one."""
    if number not in TASKS:
        raise InvalidRequest(fields={"task": "Give one of the tasks."})
    return TASKS[number]


def piece_from(request: store_pb.KeepProgressRequest | store_pb.FinishWorkRequest) -> tuple[Piece, str]:
    """Which piece of work is meant, and who has it."""
    piece = Piece(org_from(request.org_id), provider_from(request.provider), task_from(request.task))
    return piece, owner_from(request.owner)


def finish_from(request: store_pb.FinishWorkRequest) -> Finish:
    """How a piece of work is given back."""
    return Finish(
        due_in=_due_in_from(request),
        failed=request.failed,
        progress=progress_from(request.progress),
        by_hand=request.by_hand,
    )


def progress_from(progress: str) -> str:
    """How far a piece of work has come; InvalidRequest when it is too long."""
    return text_from("progress", progress)


def max_items_from(number: int) -> int:
    """How many pieces are wanted, one when nothing is said; InvalidRequest outside of the limits."""
    if not 0 <= number <= MAX_ITEMS:
        raise InvalidRequest(fields={"max_items": f"Give at most {MAX_ITEMS}."})
    return number or 1


def refreshed_from(credential: pb.Credential) -> tuple[str, bytes]:
    """The provider and the bytes of a credential with a new access token; InvalidRequest for one that has none."""
    if credential.WhichOneof("kind") != "google_calendar":
        raise InvalidRequest(fields={"credential": "Give the credential of a provider whose access tokens end."})
    provider, payload, _ = payload_from(credential)
    google = credential.google_calendar
    text_from("credential.access_token", google.access_token, at_least=1, at_most=_MAX_TOKEN_BYTES)
    if not google.HasField("expires_at"):
        raise InvalidRequest(fields={"credential.expires_at": "Say when the access token ends."})
    return provider, payload


def only_refreshed(stored: bytes, refreshed: bytes) -> bool:
    """Whether of two payloads nothing but the tokens and the access token's end differ.

    With a new access token there may be a new refresh token, in the place of the old one (RFC 6749, section 6).
    """
    try:
        before, after = _without_tokens(stored), _without_tokens(refreshed)
    except DecodeError:
        return False
    return before is not None and before == after


def oauth_state_from(request: store_pb.KeepOAuthStateRequest | store_pb.UseOAuthStateRequest) -> OAuthState:
    """The state of a consent; InvalidRequest when a hash of it is none."""
    return OAuthState(
        org_id=org_from(request.org_id),
        provider=provider_from(request.provider),
        state_hash=_hash_from("state_hash", request.state_hash),
        binding=_hash_from("binding", request.binding),
    )


def state_lasts_from(duration: Duration) -> timedelta:
    """How long a state is good for; InvalidRequest outside of the limits."""
    seconds = duration.seconds + duration.nanos / 1e9
    if not 0 < seconds <= MAX_STATE_SECONDS:
        raise InvalidRequest(fields={"duration": f"Give more than zero and at most {MAX_STATE_SECONDS:g} seconds."})
    return timedelta(seconds=seconds)


def _scheduled_from(work: store_pb.ScheduledWork) -> ScheduledWork:
    return ScheduledWork(task=task_from(work.task), due_in=_due_in_from(work), by_hand=work.by_hand)


def _due_in_from(request: store_pb.ScheduledWork | store_pb.FinishWorkRequest) -> timedelta:
    """Absent is not zero: what is due again at once would be done without an end."""
    seconds = request.due_in.seconds + request.due_in.nanos / 1e9
    if not request.HasField("due_in") or not 0 <= seconds <= MAX_DUE.total_seconds():
        raise InvalidRequest(fields={"due_in": "Give a time of at most ten years."})
    return timedelta(seconds=seconds)


def _hash_from(field: str, value: bytes) -> bytes:
    if len(value) != HASH_BYTES:
        raise InvalidRequest(fields={field: f"Give a SHA-256: {HASH_BYTES} bytes."})
    return value


def _without_tokens(payload: bytes) -> bytes | None:
    credential = pb.Credential.FromString(payload)
    if credential.WhichOneof("kind") != "google_calendar":
        return None
    credential.google_calendar.ClearField("access_token")
    credential.google_calendar.ClearField("refresh_token")
    credential.google_calendar.ClearField("expires_at")
    # Bytes, not messages: fields of a newer contract count too.
    return credential.SerializeToString(deterministic=True)
