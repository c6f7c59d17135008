"""The fake vault, as a test meets it."""

import asyncio
import weakref
from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
import grpc.aio

from tenantvault._cache_settings import DEFAULT_CACHE, CacheSettings
from tenantvault._failures import no_loop
from tenantvault._manner import Telemetry, connections
from tenantvault._reads import org_of
from tenantvault._tokens import utc_now
from tenantvault.async_client import AsyncClient
from tenantvault.channel import DEFAULT_DEADLINE, channel_options
from tenantvault.client import Client
from tenantvault.credentials import Credential, Provider, Resource
from tenantvault.errors import TenantVaultError
from tenantvault.testing.faults import Call, Faults
from tenantvault.testing.memory import OVERLAP, Memory
from tenantvault.testing.server import Server
from tenantvault.testing.watches import Watchers

ClientT = TypeVar("ClientT", Client, AsyncClient)

# A proxy of the environment is not for loopback.
_LOOPBACK: Final = (("grpc.enable_http_proxy", 0),)


class FakeVault:
    """A vault and a provider service on loopback, in threads of this process, without TLS, keys, policy and database.

    It serves from when it is made until it is closed; use it in `with`. Clients come from `client` and `async_client`.
    What it is told, it tells on as the real vault does: versions, generations and changes count up in the same way, and
    each read ends with the same error. When one of its verbs returns, no client of it gives anything older from memory.

    `now` is what it and its clients take for the time, with a zone.
    """

    def __init__(self, *, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._memory = Memory(now)
        self._faults = Faults()
        self._watchers = Watchers()
        self._clients: weakref.WeakSet[Client | AsyncClient] = weakref.WeakSet()
        self._server = Server(self._memory, self._faults, self._watchers, self._changed)

    @property
    def target(self) -> str:
        """Where it is, `host:port`."""
        return self._server.target

    @property
    def calls(self) -> tuple[Call, ...]:
        """What it was asked until now, in its order: method and keys. Watches are not among them."""
        return self._faults.calls

    def connect(
        self, org_id: str, credential: Credential, resources: Iterable[Resource] = (), *, overlap: float = OVERLAP
    ) -> int:
        """Connect an org's credential, with what was made for it at the provider; its version, counted from 1.

        Where one is connected already it replaces that, and the resources; the one before stays readable for `overlap`
        seconds.

        Raises:
            InvalidRequest: `org_id` is none.
            OrgFrozen: the org is.
            ResourceConflict: a resource is another org's.
        """
        version = self._memory.connect(org_of(org_id), credential, resources, overlap)
        self._changed(org_id)
        return version

    def rotate(self, org_id: str, credential: Credential, *, overlap: float = OVERLAP) -> int:
        """Replace an org's credential; its version. The one before stays readable for `overlap` seconds.

        Raises:
            CredentialNotFound: none is connected.
            OrgFrozen: the org is.
        """
        version = self._memory.rotate(org_id, credential, overlap)
        self._changed(org_id)
        return version

    def disconnect(self, org_id: str, provider: Provider) -> None:
        """Make an org's credential unreadable; CredentialNotFound when there never was one."""
        self._memory.disconnect(org_id, provider)
        self._changed(org_id)

    def freeze(self, org_id: str) -> None:
        """Have every read of an org refused with OrgFrozen."""
        self._memory.freeze(org_of(org_id), frozen=True)
        self._changed(org_id)

    def unfreeze(self, org_id: str) -> None:
        """End a freeze."""
        self._memory.freeze(org_of(org_id), frozen=False)
        self._changed(org_id)

    def fail(self, error: TenantVaultError, times: int = 1, method: str | None = None) -> None:
        """End the next calls with an error: so many, of one method of the contract, or of any but WatchChanges.

        A read that fails with VaultUnavailable is made again by a client with `retries`: three times at most.

        Raises:
            ValueError: there is no such method, or `times` is less than 1.
        """
        self._faults.fail(error, times, method)

    def delay(self, seconds: float) -> None:
        """Have each call from now on wait so long for its answer; 0 ends it. Watches go on."""
        self._faults.seconds = seconds

    def drop_watches(self) -> None:
        """End all watches that are under way.

        A client that notices gives nothing from memory until it has begun another one, which it does by itself.
        """
        self._watchers.end()

    def client(
        self,
        *,
        deadline: float = DEFAULT_DEADLINE,
        cache: CacheSettings | None = DEFAULT_CACHE,
        retries: bool = True,
        hedge_after: float | None = None,
        channels: int = 1,
        telemetry: Telemetry | None = None,
    ) -> Client:
        """A client of this vault, for threads; the settings are those of `Client.connect`. Close it."""
        first, *others = (
            grpc.insecure_channel(self.target, options)
            for options in _options(channels, retries=retries, hedge_after=hedge_after)
        )
        return self._known(
            Client(
                first,
                grpc.insecure_channel(self.target, _options(1)[0]),
                others=others,
                deadline=deadline,
                cache=cache,
                hedge_after=hedge_after,
                telemetry=telemetry,
                target=self.target,
                provider_target=self.target,
                now=self._now,
            )
        )

    def async_client(
        self,
        *,
        deadline: float = DEFAULT_DEADLINE,
        cache: CacheSettings | None = DEFAULT_CACHE,
        retries: bool = True,
        hedge_after: float | None = None,
        channels: int = 1,
        telemetry: Telemetry | None = None,
    ) -> AsyncClient:
        """The same for asyncio; InvalidRequest when it is not called inside the running loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise no_loop() from None
        first, *others = (
            grpc.aio.insecure_channel(self.target, options)
            for options in _options(channels, retries=retries, hedge_after=hedge_after)
        )
        return self._known(
            AsyncClient(
                first,
                grpc.aio.insecure_channel(self.target, _options(1)[0]),
                others=others,
                deadline=deadline,
                cache=cache,
                hedge_after=hedge_after,
                telemetry=telemetry,
                target=self.target,
                provider_target=self.target,
                now=self._now,
            )
        )

    def close(self) -> None:
        """End every call and watch, and listen no more."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _known(self, client: ClientT) -> ClientT:
        self._clients.add(client)
        return client

    def _changed(self, org_id: str) -> None:
        """Tell who watches, and each client's memory at once: a test that changes something must not race the watch."""
        generation = self._memory.generation(org_id)
        self._watchers.tell(org_id, generation)
        for client in list(self._clients):
            cache = client._calls.cache  # noqa: SLF001 - what the watch tells too, a moment later
            if cache is not None:
                cache.changed(org_id, generation)


def _options(
    channels: int, *, retries: bool = False, hedge_after: float | None = None
) -> list[tuple[tuple[str, int | str], ...]]:
    """The options of each connection of a client, which shares none with another."""
    options = (*channel_options(own_connection=True, retries=retries), *_LOOPBACK)
    return [options] * connections(channels, hedges=hedge_after is not None)
