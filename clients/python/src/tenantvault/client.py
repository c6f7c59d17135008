"""The client for threads."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

import grpc

from tenantvault._cache_settings import DEFAULT_CACHE, CacheSettings, CacheStatistics
from tenantvault._calls import Calls
from tenantvault._manner import Manner, Telemetry, connections
from tenantvault._refreshes import Refreshes
from tenantvault._settings import Settings
from tenantvault._tokens import utc_now
from tenantvault._verbs import Verbs
from tenantvault._wire import Wire
from tenantvault.channel import DEFAULT_DEADLINE, open_blocking_channel
from tenantvault.tls import TlsFiles


class Client(Verbs):
    """Reads credentials from the vault, blocking. One client serves all threads of its process.

    Make it by `from_env` or `connect`, and close it, or use it in `with`. It connects when it is first used and
    reconnects by itself; a call made meanwhile waits for that within its deadline.

    It remembers answers, and the vault tells it when they are old: a read that is answered from memory makes no call.
    See `CacheSettings` for the bounds.

    Every call has a deadline in seconds, `deadline` unless it names its own, and raises a `TenantVaultError` and
    nothing else.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        provider_channel: grpc.Channel | None = None,
        *,
        others: Sequence[grpc.Channel] = (),
        deadline: float = DEFAULT_DEADLINE,
        cache: CacheSettings | None = DEFAULT_CACHE,
        hedge_after: float | None = None,
        telemetry: Telemetry | None = None,
        target: str = "",
        provider_target: str = "",
        now: Callable[[], datetime] = utc_now,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        manner = Manner(
            deadline=deadline,
            cache=cache,
            hedge_after=hedge_after,
            telemetry=telemetry,
            now=now,
            timer=timer,
            target=target,
            provider_target=provider_target,
        )
        self._wire = Wire([channel, *others], provider_channel, manner)
        super().__init__(Calls(self._wire, manner, several=bool(others)), Refreshes(self._wire, deadline), manner)

    @classmethod
    def connect(
        cls,
        target: str,
        tls: TlsFiles,
        *,
        provider_target: str | None = None,
        deadline: float = DEFAULT_DEADLINE,
        cache: CacheSettings | None = DEFAULT_CACHE,
        retries: bool = True,
        hedge_after: float | None = None,
        channels: int = 1,
        telemetry: Telemetry | None = None,
    ) -> Self:
        """A client of the vault at `host:port`; OSError when the files of `tls` cannot be read or used.

        Args:
            target: where the vault is.
            tls: what mutual TLS needs.
            provider_target: where the provider service is, which gets a new access token for `google_calendar`.
            deadline: seconds that a call may take, at most 119.
            cache: how much is remembered, and for how long; None for nothing.
            retries: make a read that the vault was unavailable for again, within its deadline and a budget.
            hedge_after: seconds without an answer after which a read is asked a second time over another connection,
                and the first answer wins; None for never.
            channels: connections to the vault, used in turn: one takes as many calls at once as the vault allows.
            telemetry: whom to tell of the calls, e.g. `tenantvault.telemetry.OpenTelemetry`.
        """
        others = range(1, connections(channels, hedges=hedge_after is not None))
        return cls(
            open_blocking_channel(target, tls, retries=retries),
            open_blocking_channel(provider_target, tls) if provider_target else None,
            others=[open_blocking_channel(target, tls, own_connection=True, retries=retries) for _ in others],
            deadline=deadline,
            cache=cache,
            hedge_after=hedge_after,
            telemetry=telemetry,
            target=target,
            provider_target=provider_target or "",
        )

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] = os.environ,
        *,
        deadline: float = DEFAULT_DEADLINE,
        cache: CacheSettings | None = DEFAULT_CACHE,
        retries: bool = True,
        hedge_after: float | None = None,
        channels: int = 1,
        telemetry: Telemetry | None = None,
    ) -> Self:
        """A client by TENANTVAULT_VAULT_TARGET, TENANTVAULT_TLS_CERT, TENANTVAULT_TLS_KEY and TENANTVAULT_TLS_CA.

        TENANTVAULT_PROVIDER_TARGET is optional: `google_calendar` needs it. The rest is as for `connect`.

        Raises:
            ValueError: variables are missing, or name files that cannot be read; the sentence names them all.
            OSError: the files cannot be used.
        """
        settings = Settings.from_env(environ)
        return cls.connect(
            settings.target,
            settings.tls,
            provider_target=settings.provider_target,
            deadline=deadline,
            cache=cache,
            retries=retries,
            hedge_after=hedge_after,
            channels=channels,
            telemetry=telemetry,
        )

    def forget(self) -> None:
        """Forget every answer that is in memory."""
        self._calls.forget()

    @property
    def cache_statistics(self) -> CacheStatistics:
        """How the memory did since the client was made, and what is in it now."""
        return self._calls.statistics

    def close(self) -> None:
        """End the connections and every call under way, and forget everything. A closed client stays closed."""
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
