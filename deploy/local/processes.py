"""What the stack consists of, in the order in which it is started."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.child import Process
from deploy.local.command import Command
from deploy.local.environments import GOOGLE_CLIENT_SECRET, Environments
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.probes import accepts, grpc_serves, http_answers
from deploy.local.strongbox import Strongbox
from tenantvault.tls import TlsFiles

_CODE: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes, with where their settings come from.

    `tls` issues an identity; `admin_url` and `app_url` give the database's URLs once PostgreSQL is prepared. `postgres`
    is None when the database runs elsewhere.
    """

    environments: Environments
    box: Strongbox
    tls: Callable[[str], TlsFiles]
    admin_url: Callable[[], str]
    app_url: Callable[[], str]
    postgres: EmbeddedPostgres | None
    audit_spool: Path

    def all(self) -> list[Process]:
        """All of them. What does not wait for another starts at once."""
        return [
            *self._database(),
            *([] if self.environments.live else [self._sandbox()]),
            self._vault(),
            self._provider(),
            self._gateway(),
        ]

    def _database(self) -> list[Process]:
        migrate = Process(
            name="migrate",
            launch=lambda: _python(
                "services.vault.migrate",
                "--roles",
                environment=self.environments.migrate(
                    admin_url=self.box.put("admin_url", self.admin_url()), app_password=self.box.path("app_password")
                ),
            ),
            ready=None,
            after=frozenset({"postgres"} if self.postgres else ()),
        )
        if self.postgres is None:
            return [migrate]
        return [
            Process(name="postgres", launch=self.postgres.prepare, ready=accepts(self.postgres.accepts)),
            migrate,
        ]

    def _sandbox(self) -> Process:
        return Process(
            name="sandbox",
            launch=lambda: _python("deploy.sandbox", environment=self.environments.sandbox()),
            ready=http_answers(self.environments.ports.sandbox, "/_sandbox/requests"),
        )

    def _vault(self) -> Process:
        return Process(
            name="vault",
            launch=lambda: _python(
                "services.vault.main",
                environment=self.environments.vault(
                    self.tls("vault"),
                    database_url=self.box.put("app_url", self.app_url()),
                    master_keys=self.box.path("master_keys"),
                    audit_spool=self.audit_spool,
                ),
            ),
            ready=grpc_serves(self.environments.ports.vault, self._own_tls),
            after=frozenset({"migrate"}),
        )

    def _provider(self) -> Process:
        return Process(
            name="provider",
            launch=lambda: _python(
                "services.provider.main",
                environment=self.environments.provider(
                    self.tls("provider"), google_secret=self.box.put("google_client_secret", GOOGLE_CLIENT_SECRET)
                ),
            ),
            ready=grpc_serves(self.environments.ports.provider, self._own_tls),
        )

    def _gateway(self) -> Process:
        return Process(
            name="gateway",
            launch=lambda: _python(
                "gateway.main",
                environment=self.environments.gateway(
                    self.tls("gateway"),
                    jwt_secret=self.box.path("jwt_secret"),
                    session_secret=self.box.path("session_secret"),
                ),
            ),
            ready=http_answers(self.environments.ports.gateway, "/readyz"),
        )

    def _own_tls(self) -> TlsFiles:
        return self.tls("supervisor")


def _python(module: str, *arguments: str, environment: Mapping[str, str]) -> Command:
    return Command(arguments=(sys.executable, "-m", module, *arguments), environment=environment, directory=_CODE)
