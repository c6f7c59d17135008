"""Many keys at once: what is in memory from there, the rest in calls of a thousand, each key with its own outcome."""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from tenantvault._answers import instead, keep
from tenantvault._cache import Asked, Cache
from tenantvault._entries import Key
from tenantvault._failures import bad, copied, no_answer
from tenantvault._methods import BATCH_GET, BATCH_RESOLVE
from tenantvault._reads import kind_number, opened, org_of, provider_number, resolved, resource_of, staleness
from tenantvault.credentials import ActiveCredential, Credential, Provider, ResolvedOrg, ResourceKind
from tenantvault.errors import BY_REASON, InternalError, InvalidRequest, PermissionDenied, TenantVaultError
from tenantvault.messages import KIND_OF, PROVIDER_OF
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory

MOST_KEYS: Final = 1000
"""Keys of one call, at most."""

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Batch(Mapping[KeyT, ValueT | TenantVaultError], Generic[KeyT, ValueT]):
    """What came of many keys, in the order of the keys: for each its value, or the error that says why there is none.

    `value` raises that error; `found` and `failed` have the ones and the others.
    """

    def __init__(self, outcomes: Mapping[KeyT, ValueT | TenantVaultError]) -> None:
        self._outcomes = outcomes

    def __getitem__(self, key: KeyT) -> ValueT | TenantVaultError:
        return self._outcomes[key]

    def __iter__(self) -> Iterator[KeyT]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        return f"Batch(found={len(self.found)}, failed={len(self.failed)})"

    def value(self, key: KeyT) -> ValueT:
        """The key's value; its TenantVaultError when it has none, KeyError when it was not asked for."""
        outcome = self._outcomes[key]
        if isinstance(outcome, TenantVaultError):
            raise copied(outcome)
        return outcome

    @property
    def found(self) -> dict[KeyT, ValueT]:
        """The keys that have a value."""
        return {key: each for key, each in self._outcomes.items() if not isinstance(each, TenantVaultError)}

    @property
    def failed(self) -> dict[KeyT, TenantVaultError]:
        """The keys that have none, each with its error."""
        return {key: each for key, each in self._outcomes.items() if isinstance(each, TenantVaultError)}


@dataclass(frozen=True, slots=True)
class Many(Generic[KeyT, ValueT]):
    """What is asked of many keys.

    Args:
        method: the call.
        message: a key as the contract has it, and as it is remembered; InvalidRequest when it is none.
        request: the request for such messages.
        apart: keys that differ in this may be allowed and denied apart.
        value: what the outcome of such a message is made into; an error where it is none.
    """

    method: str
    message: Callable[[KeyT], tuple[Any, Key]]
    request: Callable[[list[Any]], Any]
    apart: Callable[[Any], Hashable]
    value: Callable[[Any, Any], ValueT | TenantVaultError]


def credentials(max_staleness: float | None) -> Many[tuple[str, Provider], ActiveCredential[Credential]]:
    """The credentials of orgs."""
    oldest = staleness(max_staleness)

    def message(key: tuple[str, Provider]) -> tuple[access.CredentialKey, Key]:
        org_id, provider = _pair(key, "Give pairs of an org's id and a provider.")
        wanted = access.CredentialKey(org_id=org_of(org_id), provider=provider_number(provider))
        return wanted, (wanted.org_id, PROVIDER_OF[wanted.provider], False)

    return Many(
        BATCH_GET,
        message,
        lambda keys: access.BatchGetCredentialsRequest(keys=keys, max_staleness=oldest),
        lambda wanted: wanted.provider,
        lambda wanted, outcome: opened(outcome.credential, wanted.provider, wanted.org_id),
    )


def orgs() -> Many[tuple[ResourceKind, str], ResolvedOrg]:
    """The orgs of resources."""

    def message(key: tuple[ResourceKind, str]) -> tuple[directory.ResourceKey, Key]:
        kind, resource_id = _pair(key, "Give pairs of a kind and an identifier.")
        wanted = directory.ResourceKey(kind=kind_number(kind), resource_id=resource_of(resource_id))
        return wanted, (KIND_OF[wanted.kind], wanted.resource_id)

    return Many(
        BATCH_RESOLVE,
        message,
        lambda keys: directory.BatchResolveOrgsRequest(keys=keys),
        lambda _: None,
        lambda _, outcome: resolved(outcome.org),
    )


@dataclass(frozen=True, slots=True)
class _Missing(Generic[KeyT]):
    """A key that is not in memory."""

    key: KeyT
    message: Any
    remembered: Key


class Gathering(Generic[KeyT, ValueT]):
    """One batch on its way. `within` is how many seconds ago what is in memory must have been current."""

    def __init__(
        self, many: Many[KeyT, ValueT], cache: Cache[Any] | None, *, within: float | None, now: Callable[[], datetime]
    ) -> None:
        self._many = many
        self._cache = cache
        self._within = within
        self._now = now
        self._outcomes: dict[KeyT, ValueT | TenantVaultError] = {}

    def steps(self, keys: Iterable[KeyT]) -> Generator[tuple[Any, bool], Any, Batch[KeyT, ValueT]]:
        """Gives the requests to make, one after the other; takes the response of each, or its TenantVaultError.

        With each it says whether it should wait for a connection: it need not where all its keys have something to fall
        back on.

        Raises:
            InvalidRequest: the keys are none, or the vault takes no call of this client.
        """
        missing = self._remembered(keys)
        chunks = [missing[first : first + MOST_KEYS] for first in range(0, len(missing), MOST_KEYS)]
        while chunks:
            chunk = chunks.pop(0)
            asked = None if self._cache is None else self._cache.asked()
            response = yield self._many.request([each.message for each in chunk]), not self._can_do_without(chunk)
            if isinstance(response, InvalidRequest):
                raise response
            if isinstance(response, PermissionDenied) and len(parts := self._apart(chunk)) > 1:
                chunks[:0] = parts
                continue
            self._take_all(chunk, response, asked)
        return Batch(self._outcomes)

    def _remembered(self, keys: Iterable[KeyT]) -> list[_Missing[KeyT]]:
        """Take what is in memory; returns what is not."""
        missing = []
        for key in _each_once(keys):
            try:
                message, remembered = self._many.message(key)
            except InvalidRequest as error:
                self._outcomes[key] = error
                continue
            found = None if self._cache is None else self._cache.hit(remembered, self._within)
            self._outcomes[key] = no_answer("vault") if found is None else found
            if found is None:
                missing.append(_Missing(key, message, remembered))
        if self._cache is not None:
            self._cache.count(missed=len(missing))
        return missing

    def _can_do_without(self, chunk: list[_Missing[KeyT]]) -> bool:
        cache = self._cache
        return cache is not None and all(cache.stale(each.remembered, self._within) is not None for each in chunk)

    def _apart(self, chunk: list[_Missing[KeyT]]) -> list[list[_Missing[KeyT]]]:
        """What may be allowed and denied apart: of one call all is denied when one key is."""
        parts: dict[Hashable, list[_Missing[KeyT]]] = {}
        for each in chunk:
            parts.setdefault(self._many.apart(each.message), []).append(each)
        return list(parts.values())

    def _take_all(self, chunk: list[_Missing[KeyT]], response: Any, asked: Asked | None) -> None:
        for each, outcome in zip(chunk, _outcomes(response, len(chunk)), strict=True):
            self._take(each, outcome, asked)

    def _take(self, each: _Missing[KeyT], outcome: Any, asked: Asked | None) -> None:
        try:
            value = self._many.value(each.message, _succeeded(outcome))
        except TenantVaultError as error:
            old = None if self._cache is None else instead(self._cache, each.remembered, error, self._within)
            self._outcomes[each.key] = error if old is None else old
            return
        self._outcomes[each.key] = value
        if self._cache is not None and asked is not None:
            keep(self._cache, each.remembered, value, asked, size=outcome.ByteSize(), now=self._now)


def _each_once(keys: Iterable[KeyT]) -> list[KeyT]:
    try:
        return list(dict.fromkeys(keys))
    except TypeError:
        raise bad("keys", "Give pairs of texts.") from None


def _pair(key: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(key, tuple) or len(key) != 2:  # noqa: PLR2004 - a pair
        raise bad("keys", what)
    return key


def _outcomes(response: Any, number: int) -> list[Any]:
    """The outcome of each key; where the whole call failed, that for each."""
    if isinstance(response, TenantVaultError):
        return [response] * number
    outcomes = list(response.outcomes)
    return outcomes if len(outcomes) == number else [InternalError()] * number


def _succeeded(outcome: Any) -> Any:
    """The outcome itself; raises the error that it is."""
    if isinstance(outcome, TenantVaultError):
        raise copied(outcome)
    match outcome.WhichOneof("outcome"):
        case None:
            raise InternalError
        case "failure":
            failure: pb.KeyFailure = outcome.failure
            raise BY_REASON.get(failure.reason, InternalError)(failure.message)
        case _:
            return outcome
