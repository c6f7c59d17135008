"""One channel after another, each with the TLS files of its time.

gRPC is given credentials once, when a channel is opened. Here new calls go over a new channel as soon as the files are
others, and the old one is closed when the deadlines of its calls are over. A stream would hold it for longer, perhaps
for a connection that cannot be made any more, so streams are ended: who watches begins anew.
"""

import logging
import math
import threading
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any, Final, Generic, Protocol, TypeVar

import grpc

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the files, at least; only calls look."""

_MARGIN: Final = 1.0
_log = logging.getLogger(__name__)

ChannelT = TypeVar("ChannelT")


class Files(Protocol):
    """The files of a process, as `TlsFiles` are."""

    def stamp(self) -> object:
        """What changes with them; OSError where one is gone."""

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What they hold; OSError where they cannot be used."""


class Succession(Generic[ChannelT]):
    """The channels to one target, for tasks and for threads.

    Files that are half-written, that do not go together or are gone change nothing, and are told of once.

    Args:
        target: whose channels they are, for the log.
        tls: where the files are.
        open_channel: opens a channel with credentials.
        timer: a monotonic clock.

    Raises:
        OSError: the files cannot be used.
    """

    def __init__(
        self,
        target: str,
        tls: Files,
        open_channel: Callable[[grpc.ChannelCredentials], ChannelT],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._tls = tls
        self._open = open_channel
        self._timer = timer
        self._lock = threading.Lock()
        self._methods: weakref.WeakSet[_Method] = weakref.WeakSet()
        self._streams: weakref.WeakSet[Any] = weakref.WeakSet()
        self._old: list[tuple[float, ChannelT]] = []
        self._busy_until = -math.inf
        self._troubled = False
        self._seen = tls.stamp()
        self._channel = open_channel(tls.channel_credentials())
        self._look_at = timer() + LOOK_EVERY

    def unary_unary(self, *path: Any, **details: Any) -> Any:
        """See gRPC."""
        return self._method(_Method(self, methodcaller("unary_unary", *path, **details)))

    def unary_stream(self, *path: Any, **details: Any) -> Any:
        """See gRPC."""
        return self._method(_StreamMethod(self, methodcaller("unary_stream", *path, **details)))

    def stream_unary(self, *path: Any, **details: Any) -> Any:
        """See gRPC."""
        return self._method(_Method(self, methodcaller("stream_unary", *path, **details)))

    def stream_stream(self, *path: Any, **details: Any) -> Any:
        """See gRPC."""
        return self._method(_StreamMethod(self, methodcaller("stream_stream", *path, **details)))

    def begin(self, method: "_Method", timeout: float | None) -> Any:
        """Where a call goes that begins now and may take so long; 0 for one that may be ended at any time."""
        now = self._timer()
        with self._lock:
            endings = self._look(now) if now >= self._look_at else []
            self._busy_until = max(self._busy_until, now + (math.inf if timeout is None else timeout))
            call = method.call
        # Not under the lock: what ends may tell others, who call.
        for end in endings:
            end()
        return call

    def began(self, stream: Any) -> Any:
        """A stream that is ended with its channel."""
        with self._lock:
            self._streams.add(stream)
        return stream

    def _method(self, method: "_Method") -> "_Method":
        with self._lock:
            method.attach(self._channel)
            self._methods.add(method)
        return method

    def _look(self, now: float) -> list[Callable[[], None]]:
        """Take another channel where the files are others; returns what ends whatever is over by that."""
        self._look_at = now + LOOK_EVERY
        credentials, streams = self._renewed(), []
        if credentials is not None:
            _log.info("the TLS files have changed: there is a new channel to %s", self._target)
            self._old.append((self._busy_until, self._channel))
            self._busy_until = -math.inf
            self._channel = self._open(credentials)
            for method in self._methods:
                method.attach(self._channel)
            streams = list(self._streams)
        over = [channel for until, channel in self._old if until + _MARGIN <= now]
        self._old = [(until, channel) for until, channel in self._old if until + _MARGIN > now]
        return [
            *(partial(self._let_go, stream) for stream in streams),
            *(partial(self._end, channel) for channel in over),
        ]

    def _renewed(self) -> grpc.ChannelCredentials | None:
        """What the files hold; None where that is as before, or of no use."""
        try:
            seen = self._tls.stamp()
            credentials = None if seen == self._seen else self._tls.channel_credentials()
        except OSError as error:
            if not self._troubled:
                _log.warning(
                    "the new TLS files cannot be used, and the channel to %s goes on with the last: %s",
                    self._target,
                    error,
                )
            self._troubled = True
            return None
        self._seen, self._troubled = seen, False
        return credentials

    def _ended(self) -> list[ChannelT]:
        """Every channel that is open, for the last time."""
        with self._lock:
            self._look_at = math.inf
            old, self._old = self._old, []
        return [self._channel, *(channel for _, channel in old)]

    @abstractmethod
    def _let_go(self, stream: Any) -> None:
        """End a stream: there is a new channel."""

    @abstractmethod
    def _end(self, channel: ChannelT) -> None:
        """Close a channel that no call needs any more."""


class _Method:
    """A method, over the channel of the time."""

    def __init__(self, channels: "Succession[Any]", made: Callable[[Any], Any]) -> None:
        self._channels = channels
        self._made = made
        self.call: Any = None

    def attach(self, channel: Any) -> None:
        """Go over this channel from now on."""
        self.call = self._made(channel)

    def __call__(self, *request: Any, timeout: float | None = None, **options: Any) -> Any:
        return self._channels.begin(self, timeout)(*request, timeout=timeout, **options)

    def future(self, *request: Any, timeout: float | None = None, **options: Any) -> Any:
        """See gRPC."""
        return self._channels.begin(self, timeout).future(*request, timeout=timeout, **options)

    def with_call(self, *request: Any, timeout: float | None = None, **options: Any) -> Any:
        """See gRPC."""
        return self._channels.begin(self, timeout).with_call(*request, timeout=timeout, **options)


class _StreamMethod(_Method):
    """A method whose calls may last."""

    def __call__(self, *request: Any, timeout: float | None = None, **options: Any) -> Any:
        return self._channels.began(self._channels.begin(self, 0)(*request, timeout=timeout, **options))
