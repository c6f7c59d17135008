"""The connection to the vault: the options that say where it is, and the calls."""

import math
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import click
import grpc

from tenantvault._status import DETAILS, FailedCall, from_status
from tenantvault.channel import REQUEST_ID, open_blocking_channel
from tenantvault.cli.interrupts import Held
from tenantvault.cli.output import BadInput
from tenantvault.cli.reach import checked, obstacle
from tenantvault.errors import DeadlineExceeded, InternalError, PermissionDenied, TenantVaultError, VaultUnavailable
from tenantvault.tls import TlsFiles
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.admin_service_pb2_grpc import VaultAdminServiceStub
from tenantvault.v1.directory_service_pb2_grpc import OrgDirectoryServiceStub
from tenantvault.v1.status_service_pb2_grpc import IntegrationStatusServiceStub
from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceStub

SHORT: Final = 10.0
"""Seconds for a call that does little."""

LONG: Final = 110.0
"""Seconds for a call that goes through a whole chain, or all orgs; servers refuse more than 120."""

_HOST_AND_PORT: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_LAST_PORT: Final = 65535

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Vault:
    """Calls to a vault that was reached. Each has a deadline in seconds, and raises a `TenantVaultError`."""

    def __init__(self, channel: grpc.Channel, target: str, seconds: float) -> None:
        self.access = CredentialAccessServiceStub(channel)
        self.admin = VaultAdminServiceStub(channel)
        self.directory = OrgDirectoryServiceStub(channel)
        self.status = IntegrationStatusServiceStub(channel)
        self.store = IntegrationStoreServiceStub(channel)
        self._channel = channel
        self._target = target
        self._seconds = seconds
        self._request_id = secrets.token_hex(16)

    def call(self, method: "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]", request: RequestT) -> ResponseT:
        """The answer to a request, e.g. `call(vault.admin.Diagnose, request)`."""
        try:
            with Held() as held:
                call = method.future(request, **self._options())
                held.ends(call)
                return call.result()
        except grpc.RpcError as error:
            raise self._failure(cast("FailedCall", error)) from None

    def stream(
        self, method: "grpc.UnaryStreamMultiCallable[RequestT, ResponseT]", request: RequestT
    ) -> Iterator[ResponseT]:
        """The answers to a request, as they come."""
        try:
            with Held() as held:
                call: Any = method(request, **self._options())
                held.ends(call)
            while True:
                with Held(call):
                    answer = next(call, None)
                if answer is None:
                    return
                yield answer
        except grpc.RpcError as error:
            raise self._failure(cast("FailedCall", error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with Held():
            self._channel.close()

    def _options(self) -> dict[str, Any]:
        # The vault was reached a moment ago, so a connection that takes more than one try is waited for.
        return {"timeout": self._seconds, "wait_for_ready": True, "metadata": ((REQUEST_ID, self._request_id),)}

    def _failure(self, call: FailedCall) -> TenantVaultError:
        if any(key == DETAILS for key, _ in call.trailing_metadata() or ()):
            error = from_status(call)
            if isinstance(error, InternalError):
                return InternalError(f"{error.message} The request id is {self._request_id}.")
            return error
        # No server of ours had a word in it.
        match call.code():
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
                return VaultUnavailable(
                    f"The vault at {self._target} cannot be reached, or the connection broke: look at the address "
                    "(--target), at the certificates (--cert, --key, --ca) and whether the vault runs."
                )
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return DeadlineExceeded(
                    f"The vault at {self._target} did not end its answer within {self._seconds:g} s: it is slow (give "
                    "it more with --deadline), or cannot be reached with this address and these certificates."
                )
            case grpc.StatusCode.UNIMPLEMENTED:
                return InternalError(f"The vault at {self._target} does not know this call: it is of another version.")
            case _:
                return from_status(call)


@contextmanager
def for_services(method: str) -> Iterator[None]:
    """Has a refusal of the policy say whose certificate the command takes: a service's, not an operator's."""
    try:
        yield
    except PermissionDenied as error:
        raise PermissionDenied(
            f"{error.message} This command takes the certificate of a service that the policy lets call {method}: give "
            "that with --cert and --key."
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the vault is, and how to show oneself there. A file is None when it was not given."""

    target: str
    certificate: Path | None
    key: Path | None
    authorities: Path | None
    deadline: float | None

    def open(self, *, seconds: float = SHORT) -> Vault:
        """The vault; `seconds` is the deadline of each call when --deadline does not say another.

        Raises:
            BadInput: a file is not given, or cannot be used.
            VaultUnavailable: the vault cannot be reached; the sentence says what to look at.
        """
        seconds = self.deadline or seconds
        tls = self._files()
        if what := obstacle(self.target, checked(tls), seconds=min(seconds, SHORT)):
            raise VaultUnavailable(what)
        return Vault(open_blocking_channel(self.target, tls), self.target, seconds)

    def _files(self) -> TlsFiles:
        if self.certificate is None or self.key is None or self.authorities is None:
            files = {"--cert": self.certificate, "--key": self.key, "--ca": self.authorities}
            missing = [option for option, path in files.items() if path is None]
            names = [f"TENANTVAULT_TLS_{option.removeprefix('--').upper()}" for option in missing]
            raise BadInput(f"Give {', '.join(missing)}, or set {', '.join(names)}.")
        return TlsFiles(certificate=self.certificate, key=self.key, authorities=self.authorities)


def access_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say where the vault is, and its `access`."""

    @wraps(command)
    def run(
        *,
        target: str,
        certificate: Path | None,
        key: Path | None,
        authorities: Path | None,
        deadline: float | None,
        **rest: Any,
    ) -> None:
        access = Access(target=target, certificate=certificate, key=key, authorities=authorities, deadline=deadline)
        command(access=access, **rest)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def _target(context: click.Context, parameter: click.Parameter, value: str) -> str:
    found = _HOST_AND_PORT.fullmatch(value)
    if found is None or not 0 < int(found[1]) <= _LAST_PORT:
        raise click.BadParameter("give the vault's host:port, e.g. localhost:7401.", context, parameter)
    host = value.rpartition(":")[0].strip("[]")
    try:
        host.encode("idna")
    except UnicodeError:
        raise click.BadParameter(
            f"give the vault's host:port, e.g. localhost:7401. No host has the name {host}: look at its dots, and for "
            "a part of more than 63 characters.",
            context,
            parameter,
        ) from None
    return value


def _deadline(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter("give seconds, more than zero.", context, parameter)
    return value


def _file(option: str, name: str, variable: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        option, name, metavar="FILE", type=click.Path(path_type=Path), envvar=variable, show_envvar=True, help=what
    )


_OPTIONS: Final = (
    click.option(
        "--target",
        metavar="HOST:PORT",
        default="localhost:7401",
        envvar="TENANTVAULT_VAULT_TARGET",
        show_envvar=True,
        show_default=True,
        callback=_target,
        help="Where the vault is.",
    ),
    _file("--cert", "certificate", "TENANTVAULT_TLS_CERT", "Your certificate, PEM."),
    _file("--key", "key", "TENANTVAULT_TLS_KEY", "Its private key, PEM."),
    _file("--ca", "authorities", "TENANTVAULT_TLS_CA", "The authorities to trust, PEM."),
    click.option(
        "--deadline",
        metavar="SECONDS",
        type=float,
        callback=_deadline,
        help=f"How long a call may take.  [default: {SHORT:g}; what goes through much: {LONG:g}]",
    ),
)
