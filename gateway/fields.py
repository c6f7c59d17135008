"""Bodies into messages. What is known here is which fields there are and that they are text.

Whether a value is complete and well formed, the provider service says, and it mends what was pasted.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.names import camel
from tenantvault.credentials import Provider
from tenantvault.errors import InvalidRequest
from tenantvault.v1 import credential_pb2 as pb

ANY: Final = "body"
"""The name under which a complaint stands that is about no single field that we could name."""

LONGEST: Final = 4096
"""Characters of a value. No credential comes near it, and nothing huge travels on."""

TYPED_IN: Final[Mapping[Provider, tuple[str, ...]]] = {
    Provider.VAPI: ("api_key", "webhook_secret", "region", "webhook_scheme", "webhook_credential_id"),
    Provider.TWILIO: (
        "account_sid",
        "auth_token",
        "api_key_sid",
        "api_key_secret",
        "phone_number",
        "whatsapp_number",
        "webhook_shared_key",
        "webhook_algorithm",
    ),
    Provider.RESEND: ("api_key", "webhook_secret"),
    Provider.ELEVENLABS: ("api_key", "webhook_secret", "region"),
}
"""What a customer may type in, for each provider that takes that: not what TenantVault itself keeps in a credential,
such as the id of a webhook that it made."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]{1,32}")


def credential(provider: Provider, body: Mapping[str, Any]) -> pb.Credential:
    """The credential in a body. It holds plaintext, as it was typed in.

    Raises:
        InvalidRequest: a field is unknown, no text or far too long; `fields` names each.
    """
    message = pb.Credential()
    kind = getattr(message, provider.name.lower())
    values = texts(body, map(camel, TYPED_IN[provider]))
    # Also without a single value it becomes one of this kind: whoever knows the rules can say what is missing.
    for name in TYPED_IN[provider]:
        setattr(kind, name, values[camel(name)])
    return message


def texts(body: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """The values of these fields in a body; empty for one that is missing or null.

    Raises:
        InvalidRequest: another field is there, or one is no text or far too long; `fields` names each.
    """
    values = {name: "" if body.get(name) is None else body[name] for name in names}
    wrong = dict.fromkeys(
        (plain(name, ANY) for name in body if name not in values), "This field is not known here: leave it out."
    )
    wrong |= {name: what for name, value in values.items() if (what := _complaint(value))}
    demand_none(wrong)
    return values


def org(body: Mapping[str, Any]) -> str:
    """The org that a person picks on the local sign-in page; InvalidRequest without one."""
    picked = texts(body, ["org"])["org"]
    if not picked:
        raise InvalidRequest("Pick an organisation.", fields={"org": "Pick an organisation."})
    return picked


def nothing(body: Mapping[str, Any]) -> None:
    """For calls that take no fields; InvalidRequest names those that came."""
    texts(body, ())


def plain(name: str, otherwise: str) -> str:
    """A name that may be given back. A secret that was pasted in the wrong place does not look like one."""
    return name if _PLAIN_NAME.fullmatch(name) else otherwise


def demand_none(wrong: Mapping[str, str]) -> None:
    """InvalidRequest when something is wrong: what, by the field's name."""
    if wrong:
        count = "One field needs" if len(wrong) == 1 else f"{len(wrong)} fields need"
        raise InvalidRequest(f"{count} attention.", fields=wrong)


def _complaint(value: object) -> str:
    if not isinstance(value, str) or not _is_unicode(value):
        return "This must be text."
    return "" if len(value) <= LONGEST else f"This is longer than {LONGEST} characters: enter the value alone."


def _is_unicode(value: str) -> bool:
    """Whether it is more than something that JSON can escape: half of a surrogate pair is no character."""
    return not any("\ud800" <= character <= "\udfff" for character in value[:LONGEST])
