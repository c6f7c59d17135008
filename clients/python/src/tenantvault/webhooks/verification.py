"""From a request to an event of an org."""

import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tenantvault.webhooks.event import Event
from tenantvault.webhooks.org import Owner, Vault, asked_owner, find_owner, names_another
from tenantvault.webhooks.rejection import Cause, WebhookRejected
from tenantvault.webhooks.request import Request
from tenantvault.webhooks.sender import Sender

_log = logging.getLogger(__name__)


async def verified(vault: Vault, sender: Sender[Any], org_id: str, request: Request, *, now: float) -> Event:
    """The event in a request, with its org: `org_id`, or where that is empty the one that the body names.

    Given an `org_id`, what proves itself by a credential that is remembered costs the vault no question, but one for
    each name in it that is not the org's own: that a name is nobody's is never remembered, since it may be another
    org's a moment later. What does not prove itself costs one question, whether the org is remembered, known or
    nobody's, and an org that nobody knows costs the same hashing as a wrong signature. Without an `org_id` the vault is
    asked about up to three names, until one leads to an org: how long that takes may tell which of them is known. What
    was rejected is in the log, with its cause.

    Raises:
        WebhookRejected: it proves itself by no credential of the org, or names what belongs to another.
        TenantVaultError: the vault gave no answer, or does not let this service ask.
    """
    owner = await find_owner(vault, sender.provider, org_id, () if org_id else sender.names(request))
    try:
        if owner is not None and owner.remembered:
            with suppress(WebhookRejected):
                return await _checked(vault, sender, owner, request, now)
            # What is remembered may be old; and how long it takes must not tell that there is such an org.
            owner = await asked_owner(vault, sender.provider, org_id)
        return await _checked(vault, sender, owner, request, now)
    except WebhookRejected as rejection:
        log_rejection(sender, owner, rejection)
        raise


def log_rejection(sender: Sender[Any], owner: Owner | None, rejection: WebhookRejected) -> None:
    """Say what was rejected. The org is named only when it was found: what a request says it is could be any text."""
    level = logging.ERROR if rejection.cause is Cause.NOT_CONFIGURED else logging.WARNING
    org_id = owner.active.org_id if owner else ""
    extra = {"provider": sender.provider.value, "org": org_id, "cause": rejection.cause.value}
    _log.log(level, "webhook rejected", extra=extra)


async def _checked(vault: Vault, sender: Sender[Any], owner: Owner | None, request: Request, now: float) -> Event:
    event = sender.verify(request, owner.credentials(now) if owner else (), now=now)
    if owner is None:
        raise WebhookRejected(Cause.UNKNOWN_ORG)
    # Only now: what an unknown sender names must not make work.
    if await names_another(vault, owner, sender.names(request)):
        raise WebhookRejected(Cause.OTHER_ORG)
    return replace(event, org_id=owner.active.org_id)
