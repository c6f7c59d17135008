"""The whole of TenantVault on this machine."""

import base64
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import quote, urlsplit

from deploy.local.authority import DevelopmentAuthority
from deploy.local.child import Patience
from deploy.local.cluster import is_cluster
from deploy.local.environments import Environments, Ports
from deploy.local.errors import LocalError
from deploy.local.ports import prefer, require
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.processes import Processes
from deploy.local.running import Running, claim
from deploy.local.strongbox import Strongbox
from deploy.local.supervisor import Supervisor
from tenantvault.tls import TlsFiles

_USUAL: Final = Ports(gateway=8400, vault=7401, provider=7402, sandbox=7499)
_ANY: Final = Ports(gateway=0, vault=0, provider=0, sandbox=0)
_APP_ROLE: Final = "tenantvault_app"
_SERVERS: Final = frozenset({"vault", "provider"})
_SECRET_BYTES: Final = 32


def _silent(_: str) -> None:
    pass


class Stack:
    """Every process of TenantVault, with its data below `root`.

    A gateway port of 0 takes a free one; so do the other processes, with `usual_ports` only when theirs is taken.
    `database_url` is an administrator's URL of a PostgreSQL to use instead of the embedded one. `environ` is what the
    processes may inherit a few variables of. `durable=False` makes the embedded PostgreSQL faster and forgetful, for
    tests. `announce` is told what happens. Use it from the main thread.
    """

    def __init__(
        self,
        root: Path,
        *,
        gateway_port: int = 0,
        usual_ports: bool = False,
        providers: Literal["sandbox", "live"] = "sandbox",
        database_url: str = "",
        environ: Mapping[str, str] = os.environ,
        durable: bool = True,
        patience: Patience = Patience(),  # noqa: B008  # frozen
        announce: Callable[[str], None] = _silent,
    ) -> None:
        self.root: Final = root.absolute()
        self.data: Final = self.root / "postgres" / "data"
        self._gateway_port = gateway_port
        self._wanted = _USUAL if usual_ports else _ANY
        self._live = providers == "live"
        self._database_url = database_url
        self._environ = environ
        self._patience = patience
        self._announce = announce
        self._authority = DevelopmentAuthority(self.root / "tls")
        self._box = Strongbox(self.root / "secrets")
        self._postgres = (
            None
            if database_url
            else EmbeddedPostgres(self.data, password_file=self._box.path("postgres_password"), durable=durable)
        )
        self._held = ExitStack()
        self._ports = _ANY
        self._supervisor: Supervisor | None = None

    async def start(self) -> None:
        """Start everything and return when all is ready.

        Raises LocalError when the stack runs already, the gateway's port is taken, the keys of existing data are
        missing, or a process does not start; nothing is left running then.
        """
        self._check_owner()
        with ExitStack() as held:
            tell = held.enter_context(claim(self.root))
            self._ports = self._choose_ports()
            self._keep_secrets()
            if self._postgres:
                held.callback(self._postgres.close)
            else:
                self._announce("the database is the one that DATABASE_URL names")
            processes = Processes(
                environments=Environments(self._environ, self._ports, live=self._live),
                box=self._box,
                tls=self.tls,
                admin_url=lambda: self.admin_url,
                app_url=lambda: self.app_url,
                postgres=self._postgres,
                audit_spool=self.root / "audit-spool",
            )
            self._supervisor = Supervisor(
                processes.all(), logs=self.root / "logs", patience=self._patience, announce=self._announce
            )
            await self._supervisor.start()
            tell(
                Running(
                    pid=os.getpid(),
                    gateway_url=self.gateway_url,
                    vault_target=self.vault_target,
                    provider_target=self.provider_target,
                )
            )
            self._held = held.pop_all()

    async def stop(self) -> None:
        """End everything in order. Nothing happens when it does not run."""
        with self._held:
            if self._supervisor is not None:
                await self._supervisor.stop()
                self._supervisor = None

    async def failed(self) -> None:
        """Wait until a process cannot be kept running; then raises LocalError."""
        await self._running().failed()

    def abort(self) -> None:
        """End everything by force; a `stop` that is under way goes on at once."""
        if self._supervisor is not None:
            self._supervisor.abort()

    async def kill(self, name: str) -> None:
        """End a process as a crash would. It stays away until `restart`."""
        await self._running().child(name).kill()

    async def restart(self, name: str, extra_env: Mapping[str, str] | None = None) -> None:
        """Start a process again and return when it is ready.

        `extra_env` is added to its environment for this once: should it end, it is started again without.
        """
        child = self._running().child(name)
        await child.stop()
        await child.start(extra_env)

    def pid(self, name: str) -> int:
        """The id of a process, e.g. of `vault`; LocalError when it does not run."""
        return self._running().child(name).pid

    def logs(self, name: str) -> str:
        """All that a process has written so far, in earlier runs too."""
        return (self.root / "logs" / f"{name}.log").read_text(errors="replace")

    def tls(self, name: str) -> TlsFiles:
        """The identity of a service, made when there is none: `voice-agent`, `webhook-processor` or any other."""
        return self._authority.issue(name, server=name in _SERVERS)

    @property
    def gateway_url(self) -> str:
        """Where the dashboard and the REST interface are."""
        return f"http://localhost:{self._ports.gateway}"

    @property
    def sandbox_url(self) -> str:
        """Where the stand-ins for the providers are."""
        return f"http://127.0.0.1:{self._ports.sandbox}"

    @property
    def vault_target(self) -> str:
        """The vault, for a gRPC channel."""
        return f"127.0.0.1:{self._ports.vault}"

    @property
    def provider_target(self) -> str:
        """The provider service, for a gRPC channel."""
        return f"127.0.0.1:{self._ports.provider}"

    @property
    def admin_url(self) -> str:
        """The database as its administrator; holds the password."""
        return self._postgres.admin_url if self._postgres else self._database_url

    @property
    def app_url(self) -> str:
        """The database as the vault logs in; holds the password."""
        password = self._box.read("app_password")
        if self._postgres:
            return self._postgres.url(_APP_ROLE, password)
        return as_user(self._database_url, _APP_ROLE, password)

    @property
    def jwt_secret(self) -> Path:
        """The file of the secret that signs bearer tokens for the gateway."""
        return self._box.path("jwt_secret")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise LocalError("The stack is not running.")
        return self._supervisor

    def _check_owner(self) -> None:
        uid = os.geteuid()
        if uid and self.root.exists() and self.root.stat().st_uid != uid:
            raise LocalError(f"{self.root} belongs to another user: start as that user, or choose another directory.")

    def _choose_ports(self) -> Ports:
        chosen = Ports(
            gateway=require(self._gateway_port, setting="PORT, e.g. PORT=8500 make run"),
            vault=prefer(self._wanted.vault),
            provider=prefer(self._wanted.provider),
            sandbox=prefer(self._wanted.sandbox),
        )
        for name in ("vault", "provider", "sandbox"):
            wanted, got = getattr(self._wanted, name), getattr(chosen, name)
            if wanted and wanted != got:
                self._announce(f"port {wanted} is taken: {name} listens on {got} instead")
        return chosen

    def _keep_secrets(self) -> None:
        master_keys = self._box.path("master_keys")
        if not self._database_url and is_cluster(self.data) and not master_keys.exists():
            raise LocalError(
                f"The data in {self.data} cannot be read without their master key, and {master_keys} is missing. "
                f"Put the file back, or remove {self.data} too, to begin with an empty vault."
            )
        self._box.keep(
            "master_keys", lambda: f"local-1:{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
        )
        for name in ("app_password", "jwt_secret", "session_secret"):
            self._box.keep(name, lambda: secrets.token_urlsafe(_SECRET_BYTES))


def as_user(url: str, user: str, password: str) -> str:
    """The same database URL for another user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}").geturl()
