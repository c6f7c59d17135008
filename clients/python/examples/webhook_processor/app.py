"""The application: the webhooks below `/webhooks`, and whether it is well."""

from http import HTTPStatus
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tenantvault import AsyncClient, Provider, ResourceKind
from tenantvault.errors import NotFound, TenantVaultError
from tenantvault.webhooks import Seen, Webhooks
from webhook_processor.lookup import Hosts
from webhook_processor.work import Providers, Work

# With its audio, a conversation of ElevenLabs is large.
_LARGEST_CONVERSATION: Final = 32 * 1024 * 1024
# No number in E.164 is that short: it is nobody's.
_NOBODY: Final = "+0"


def build(
    vault: AsyncClient,
    providers: Providers,
    *,
    public_url: str,
    hosts: Hosts | None = None,
    seen: Seen | None = None,
) -> Starlette:
    """The application of a client, which stays the caller's to close.

    Args:
        vault: finds the orgs, and has their credentials.
        providers: makes requests to the providers.
        public_url: what stands before the path in the URLs that the providers were told.
        hosts: where the providers are; their own addresses unless others are given.
        seen: which events were taken; several processes need one that they share.

    Raises:
        ValueError: `public_url` is no such URL.
    """
    work = Work(vault, providers, Hosts() if hosts is None else hosts)
    hooks = Webhooks(vault, public_url=public_url, seen=seen)
    hooks.on(Provider.VAPI)(work.call)
    hooks.on(Provider.TWILIO)(work.message)
    hooks.on(Provider.RESEND)(work.take)
    hooks.on(Provider.ELEVENLABS, max_bytes=_LARGEST_CONVERSATION)(work.take)

    async def alive(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> JSONResponse:
        try:
            await vault.resolve_org(ResourceKind.PHONE_NUMBER, _NOBODY)
        except NotFound:
            # The vault answers, and lets this service ask.
            pass
        except TenantVaultError as error:
            return JSONResponse({"status": "not ready", "reason": error.reason}, HTTPStatus.SERVICE_UNAVAILABLE)
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/healthz", alive), Route("/readyz", ready), Mount("/webhooks", hooks)])
