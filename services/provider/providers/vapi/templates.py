"""What the assistants of this deployment say, and how they sound.

Vapi knows no inbound or outbound assistants: both are the same thing, with other words. A deployment may put words,
voice and model of its own in the place of ours. What the schema asks of them (https://api.vapi.ai/api-json):
`firstMessageMode` is one of three, `maxDurationSeconds` is 10 to 43200, and a model, a voice and a transcriber name
their provider.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

ROLES: Final = ("inbound", "outbound")
"""What the assistants are for."""

_OURS: Final = ("name", "server", "metadata", "serverMessages")
_MODES: Final = (
    "assistant-speaks-first",
    "assistant-speaks-first-with-model-generated-message",
    "assistant-waits-for-user",
)
_SHORTEST_CALL: Final = 10
_LONGEST_CALL: Final = 43200
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("provider", "model"),
    "voice": ("provider", "voiceId"),
    "transcriber": ("provider",),
}


@dataclass(frozen=True, slots=True)
class Templates:
    """The top-level fields of the assistants' bodies, by role, without those that are ours to set."""

    by_role: Mapping[str, Mapping[str, Any]]


def standard() -> Templates:
    """The templates of a deployment that brings none."""
    return Templates(MappingProxyType({role: {**_FOR_BOTH, **_BY_ROLE[role]} for role in ROLES}))


def load_templates(path: str | Path) -> Templates:
    """The templates in a JSON file: `{"inbound": {...}, "outbound": {...}}`, either of which may be left out.

    Each of their top-level fields takes the place of the standard one as a whole; null takes it away.

    Raises:
        ValueError: the file cannot be read, or Vapi would not take what it holds; the sentence says where.
    """
    try:
        given = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"the templates cannot be read as JSON: {type(error).__name__}") from None
    if not isinstance(given, dict) or not all(isinstance(fields, dict) for fields in given.values()):
        raise ValueError('the templates are a JSON object: {"inbound": {...}, "outbound": {...}}')
    if unknown := set(given) - set(ROLES):
        raise ValueError(f"the templates know no role {min(unknown)!r}: give inbound or outbound")
    for role, fields in given.items():
        for flaw in _flaws(fields):
            raise ValueError(f"the template {role}: {flaw}")
    before = standard().by_role
    merged = {role: {**before[role], **given.get(role, {})} for role in ROLES}
    return Templates(
        MappingProxyType(
            {role: {key: each for key, each in merged[role].items() if each is not None} for role in ROLES}
        )
    )


def _flaws(fields: Mapping[str, Any]) -> Iterator[str]:
    for name in _OURS:
        if name in fields:
            yield f"{name} is set by this service: leave it out"
    for name, value in fields.items():
        if value is not None:
            yield from _flaws_of(name, value)


def _flaws_of(name: str, value: Any) -> Iterator[str]:
    if name == "firstMessageMode" and value not in _MODES:
        yield f"{name} is one of {', '.join(_MODES)}"
    elif name == "firstMessage" and not isinstance(value, str):
        yield f"{name} is a text"
    elif name == "maxDurationSeconds" and not _is_duration(value):
        yield f"{name} is a number from {_SHORTEST_CALL} to {_LONGEST_CALL}"
    elif name in _PARTS:
        texts = value if isinstance(value, dict) else {}
        for part in _PARTS[name]:
            if not isinstance(texts.get(part), str) or not texts[part]:
                yield f"{name} is an object with the text {part}"


def _is_duration(value: Any) -> bool:
    return isinstance(value, int | float) and _SHORTEST_CALL <= value <= _LONGEST_CALL


def _model(instructions: str) -> dict[str, Any]:
    return {"provider": "openai", "model": "gpt-4o", "messages": [{"role": "system", "content": instructions}]}


_FOR_BOTH: Final[Mapping[str, Any]] = {
    "firstMessageMode": "assistant-speaks-first",
    "voice": {"provider": "11labs", "voiceId": "21m00Tcm4TlvDq8ikWAM", "model": "eleven_flash_v2_5"},
    "transcriber": {"provider": "deepgram", "model": "nova-3", "language": "en"},
}
_BY_ROLE: Final[Mapping[str, Mapping[str, Any]]] = {
    "inbound": {
        "firstMessage": "Hello, thank you for calling. How can I help you?",
        "model": _model(
            "You are a friendly receptionist who answers the phone for a company. Find out what the caller needs, one "
            "question at a time, in short sentences. Ask for a name and a number to call back when you cannot help, "
            "and never make up facts about the company."
        ),
    },
    "outbound": {
        "firstMessage": "Hello, this is an automated assistant. Is this a good moment to talk?",
        "maxDurationSeconds": 600,
        "model": _model(
            "You are a polite assistant who makes phone calls for a company. Say why you call, in short sentences, and "
            "listen. End the call at once when you are asked to, when it is a bad moment, or when you reach a mailbox."
        ),
    },
}
