"""The gRPC server of a fake vault: what comes in is asked of the memory, what goes out is put into messages."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import grpc

from tenantvault._methods import (
    BATCH_GET,
    BATCH_RESOLVE,
    GET,
    REFRESH,
    REPORT_FAILURE,
    RESOLVE_CREDENTIAL,
    RESOLVE_ORG,
    WATCH,
)
from tenantvault._status import to_status
from tenantvault.credentials import ActiveCredential, Credential, ResolvedOrg
from tenantvault.errors import InvalidRequest, TenantVaultError
from tenantvault.messages import (
    KIND_OF,
    PROVIDER_NUMBER,
    credential_to_message,
    moment_to_timestamp,
    provider_from_number,
    resources_to_messages,
)
from tenantvault.testing.faults import Call, Faults
from tenantvault.testing.memory import Memory
from tenantvault.testing.watches import Watchers
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory
from tenantvault.v1 import integration_service_pb2 as integration

# Each watch has one, and each call that waits; they are made when they are needed.
_MOST_THREADS: Final = 256
_MIN_LIFE: Final = timedelta(minutes=1)
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    # Clients ping every 15 s.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Keys = tuple[tuple[Any, ...], ...]


class Server:
    """Listens on a free port of loopback from now on, in threads of its own, as vault and as provider service.

    Calls are noted, and fail, by `faults`; `changed` is told of an org that a call has changed.
    """

    def __init__(self, memory: Memory, faults: Faults, watchers: Watchers, changed: Callable[[str], None]) -> None:
        self._memory = memory
        self._faults = faults
        self._watchers = watchers
        self._changed = changed
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="tenantvault-fake")
        self._server = grpc.server(self._threads, options=_OPTIONS)
        self._server.add_generic_rpc_handlers(self._handlers())
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        """End every call and watch; it returns when the threads have ended."""
        self._server.stop(grace=None).wait()
        self._threads.shutdown()

    def _handlers(self) -> list[grpc.GenericRpcHandler]:
        services: dict[str, dict[str, Any]] = defaultdict(dict)
        for name, request, keys, answer in (
            (GET, access.GetCredentialRequest, _credential_key, self._get),
            (RESOLVE_CREDENTIAL, access.ResolveCredentialRequest, _resolution_key, self._resolve_credential),
            (BATCH_GET, access.BatchGetCredentialsRequest, _credential_keys, self._get_many),
            (REPORT_FAILURE, access.ReportFailureRequest, _credential_key, self._report_failure),
            (RESOLVE_ORG, directory.ResolveOrgRequest, _resource_key, self._resolve_org),
            (BATCH_RESOLVE, directory.BatchResolveOrgsRequest, _resource_keys, self._resolve_many),
            (REFRESH, integration.RefreshAccessTokenRequest, _credential_key, self._refresh),
        ):
            service, _, method = name.partition("/")
            services[service][method] = grpc.unary_unary_rpc_method_handler(
                self._answering(method, keys, answer), request.FromString, _serialized
            )
        service, _, method = WATCH.partition("/")
        services[service][method] = grpc.unary_stream_rpc_method_handler(
            self._watch, access.WatchChangesRequest.FromString, _serialized
        )
        return [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]

    def _answering(
        self, method: str, keys: Callable[[Any], Keys], answer: Callable[[Any, Keys], Any]
    ) -> Callable[[Any, grpc.ServicerContext], Any]:
        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            over = threading.Event()
            context.add_callback(over.set)
            with _as_status(context):
                asked = keys(request)
                self._faults.meet(Call(method, asked), over.wait)
                return answer(request, asked)

        return handle

    def _get(self, request: access.GetCredentialRequest, keys: Keys) -> access.GetCredentialResponse:
        found = self._memory.get(*keys[0], include_previous=request.include_previous)
        return access.GetCredentialResponse(credential=_active(found))

    def _resolve_credential(
        self, request: access.ResolveCredentialRequest, keys: Keys
    ) -> access.ResolveCredentialResponse:
        found = self._memory.resolve(*keys[0], include_previous=request.include_previous)
        return access.ResolveCredentialResponse(credential=_active(found))

    def _get_many(self, _: Any, keys: Keys) -> access.BatchGetCredentialsResponse:
        response = access.BatchGetCredentialsResponse()
        for key in keys:
            with _as_outcome(response.outcomes.add()) as outcome:
                outcome.credential.CopyFrom(_active(self._memory.get(*key)))
        return response

    def _report_failure(self, request: access.ReportFailureRequest, keys: Keys) -> access.ReportFailureResponse:
        [(org_id, provider)] = keys
        return access.ReportFailureResponse(test_is_due=self._memory.report(org_id, provider, request.version))

    def _resolve_org(self, _: Any, keys: Keys) -> directory.ResolveOrgResponse:
        return _owner(self._memory.owner(*keys[0]))

    def _resolve_many(self, _: Any, keys: Keys) -> directory.BatchResolveOrgsResponse:
        response = directory.BatchResolveOrgsResponse()
        for key in keys:
            with _as_outcome(response.outcomes.add()) as outcome:
                outcome.org.CopyFrom(_owner(self._memory.owner(*key)))
        return response

    def _refresh(
        self, request: integration.RefreshAccessTokenRequest, keys: Keys
    ) -> integration.RefreshAccessTokenResponse:
        [(org_id, provider)] = keys
        min_life = request.min_life.ToTimedelta() if request.HasField("min_life") else _MIN_LIFE
        expires_at = self._memory.refresh(org_id, provider, min_life)
        self._changed(org_id)
        return integration.RefreshAccessTokenResponse(expires_at=moment_to_timestamp(expires_at))

    def _watch(
        self, request: access.WatchChangesRequest, context: grpc.ServicerContext
    ) -> Iterator[access.WatchChangesResponse]:
        with _as_status(context):
            self._faults.demand(WATCH.rpartition("/")[2])
        with self._watchers.watching() as watcher:
            if not context.add_callback(watcher.end):
                return
            for known in request.known:
                if (generation := self._memory.generation(known.org_id)) > known.generation:
                    watcher.tell(known.org_id, generation)
            watcher.beat()
            yield from watcher.words()


@contextmanager
def _as_status(context: grpc.ServicerContext) -> Iterator[None]:
    """End the call with the status of the error that is raised inside."""
    try:
        yield
    except TenantVaultError as error:
        code, message, trailers = to_status(error)
        context.set_trailing_metadata(trailers)
        context.abort(code, message)


@contextmanager
def _as_outcome(outcome: Any) -> Iterator[Any]:
    """Write the error that is raised inside in the place of an outcome."""
    try:
        yield outcome
    except TenantVaultError as error:
        outcome.failure.CopyFrom(pb.KeyFailure(reason=error.reason, message=error.message))


def _active(found: ActiveCredential[Credential]) -> pb.ActiveCredential:
    previous = found.previous
    return pb.ActiveCredential(
        org_id=found.org_id,
        provider=PROVIDER_NUMBER[found.provider],
        version=found.version,
        credential=credential_to_message(found.credential),
        resources=resources_to_messages(found.resources),
        last_verified_at=None if found.last_verified_at is None else moment_to_timestamp(found.last_verified_at),
        generation=found.generation,
        previous=None
        if previous is None
        else pb.PreviousCredential(
            version=previous.version,
            credential=credential_to_message(previous.credential),
            readable_until=moment_to_timestamp(previous.readable_until),
        ),
    )


def _owner(found: ResolvedOrg) -> directory.ResolveOrgResponse:
    return directory.ResolveOrgResponse(org_id=found.org_id, role=found.role, generation=found.generation)


def _credential_key(request: Any) -> Keys:
    return ((request.org_id, provider_from_number(request.provider)),)


def _credential_keys(request: access.BatchGetCredentialsRequest) -> Keys:
    return tuple(key for one in request.keys for key in _credential_key(one))


def _resource_key(request: Any) -> Keys:
    if request.kind not in KIND_OF:
        raise InvalidRequest(fields={"kind": "Give one of the kinds of resource."})
    return ((KIND_OF[request.kind], request.resource_id),)


def _resource_keys(request: directory.BatchResolveOrgsRequest) -> Keys:
    return tuple(key for one in request.keys for key in _resource_key(one))


def _resolution_key(request: access.ResolveCredentialRequest) -> Keys:
    return ((*_resource_key(request)[0], provider_from_number(request.provider)),)


def _serialized(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized
