"""Example Mail: the sixth provider, as docs/adding-a-provider.md leads to it. The vendor exists nowhere else.

It borrows the name and the credential of Resend, since the contract's enum is for providers that exist.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from services.provider.description import Description, Field
from services.provider.fields import LONGEST, flaw_of_secret, pasted_secret
from services.provider.outbound import Answer, Outbound
from services.provider.provider import Accepted, Checkpoint, Provisioned, Refused, Verdict
from tenantvault.credentials import Credential, Provider, ResendCredential, Resource
from tenantvault.errors import AccountSuspended, InvalidCredentials, InvalidRequest, ProviderUnknownAnswer

_ACCOUNT: Final = "/v1/account"


class ExampleMail:
    """The provider. `url` is the API's base URL. Nothing is made at the vendor."""

    def __init__(self, outbound: Outbound, *, url: str) -> None:
        self.name: Final = Provider.RESEND
        self.credential: Final = ResendCredential
        self.description: Final = _description()
        self.consent: Final = None
        self.rotation: Final = None
        self._outbound = outbound
        self._url = url

    def normalise(self, credential: ResendCredential) -> ResendCredential:
        """See the port."""
        meant = ResendCredential(
            api_key=pasted_secret(credential.api_key), webhook_secret=pasted_secret(credential.webhook_secret)
        )
        if found := dict(_problems(meant)):
            raise InvalidRequest("Some fields need another look.", fields=found)
        return meant

    async def test(self, credential: ResendCredential) -> Verdict:
        """See the port."""
        answer = await self._get(_ACCOUNT, credential)
        match answer.status, answer.json:
            case HTTPStatus.OK, {"name": str(name), "state": "active"}:
                return Accepted(account=name)
            case HTTPStatus.OK, {"state": "suspended"}:
                return Refused(AccountSuspended, "Example Mail has suspended this account: contact them.", "apiKey")
            case HTTPStatus.UNAUTHORIZED, _:
                return Refused(InvalidCredentials, "Example Mail does not know this key: copy it again.", "apiKey")
            case _:  # whatever else it says, it is no word about this key
                raise ProviderUnknownAnswer

    async def complete(
        self, org_id: str, credential: ResendCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> ResendCredential:
        """See the port. A webhook secret that the customer leaves open stays what it was."""
        del org_id
        before = None if credential.webhook_secret else await newest()
        if isinstance(before, ResendCredential) and before.api_key == credential.api_key:
            return replace(credential, webhook_secret=before.webhook_secret)
        return credential

    async def provision(
        self, org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> Provisioned:
        """See the port. Nothing is needed."""
        del org_id, credential, known, checkpoint
        return Provisioned(())

    async def inspect(
        self, org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port. Nothing was made that could have changed."""
        del org_id, credential, known
        return ()

    async def release(
        self, org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port. Nothing was made that could be taken back."""
        del org_id, credential, known
        return ()

    async def _get(self, route: str, credential: ResendCredential) -> Answer:
        headers = {"Authorization": f"Bearer {credential.api_key.reveal()}"}
        answer = await self._outbound.request(self.name, "GET", self._url + route, route=route, headers=headers)
        return answer.definite()


def _problems(credential: ResendCredential) -> Iterator[tuple[str, str]]:
    if not credential.api_key:
        yield "apiKey", "Give the API key from Example Mail's settings."
    elif flaw := flaw_of_secret(credential.api_key):
        yield "apiKey", f"The API key {flaw}"
    if credential.webhook_secret and (flaw := flaw_of_secret(credential.webhook_secret)):
        yield "webhookSecret", f"The webhook secret {flaw}"


def _description() -> Description:
    return Description(
        title="Example Mail",
        summary="Sends e-mail.",
        next="The key is tested. Nothing at Example Mail is changed.",
        console_url="https://mail.example/settings",
        fields=(
            Field(
                name="api_key",
                label="API key",
                hint="Under Settings, API keys.",
                pattern=f"[!-~]{{1,{LONGEST}}}",
                required=True,
                secret=True,
            ),
            Field(
                name="webhook_secret",
                label="Webhook secret",
                hint="What its webhooks are signed with. Leave it empty when there are none.",
                pattern=f"[!-~]{{1,{LONGEST}}}",
                secret=True,
            ),
        ),
    )
