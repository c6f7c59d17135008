"""What a webhook says, once it is known to be true."""

from dataclasses import dataclass, field
from typing import Any

from tenantvault.credentials import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A verified event.

    Args:
        provider: who sent it.
        event_id: the same for every delivery of one event, and different for different events of an org. Where it is
            made of what the body says it can be as long as the body, and hold lone surrogates: hash it for a key.
        type: what happened, in the provider's words.
        payload: the parsed JSON; for a form, a dictionary of text, with a tuple of the distinct values, sorted, where a
            name came with several.
        wants_reply: the provider waits for an answer and acts by it, so that a repeated delivery needs the answer too.
        org_id: whose it is; empty where only the signature was checked.
    """

    provider: Provider
    event_id: str
    type: str
    payload: Any = field(repr=False)
    wants_reply: bool = False
    org_id: str = ""
