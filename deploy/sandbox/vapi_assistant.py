"""Which assistant bodies Vapi takes: CreateAssistantDTO of https://api.vapi.ai/api-json.

The sentences are class-validator's, with NestJS's `whitelist` and `forbidNonWhitelisted` switched on: a field that the
schema does not name is refused, so `server.secret` is, which the schema lost in 2025.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_MAX_NAME: Final = 40
_MIN_DURATION: Final = 10
_MAX_DURATION: Final = 43200
_MAX_TIMEOUT: Final = 300
_FIRST_MESSAGE_MODES: Final = (
    "assistant-speaks-first",
    "assistant-speaks-first-with-model-generated-message",
    "assistant-waits-for-user",
)

Rule = Callable[[str, Any], Iterator[str]]


def problems(body: Mapping[str, Any]) -> list[str]:
    """What is wrong with a body, one sentence each; none when Vapi takes it."""
    return list(_object(_ASSISTANT, "", body))


def _object(rules: Mapping[str, Rule], prefix: str, value: Mapping[str, Any]) -> Iterator[str]:
    for name, given in value.items():
        if name not in rules:
            yield f"{prefix}property {name} should not exist"
        elif given is not None:
            yield from rules[name](prefix + name, given)


def _text(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{name} must be a string"


def _flag(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"{name} must be a boolean value"


def _list(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{name} must be an array"


def _free(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{name} must be an object"


def _any(_name: str, _value: Any) -> Iterator[str]:
    yield from ()


def _name(name: str, value: Any) -> Iterator[str]:
    yield from _text(name, value)
    if isinstance(value, str) and len(value) > _MAX_NAME:
        yield f"{name} must be shorter than or equal to {_MAX_NAME} characters"


def _mode(name: str, value: Any) -> Iterator[str]:
    if value not in _FIRST_MESSAGE_MODES:
        yield f"{name} must be one of the following values: {', '.join(_FIRST_MESSAGE_MODES)}"


def _number(low: int, high: int) -> Rule:
    def rule(name: str, value: Any) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{name} must be a number conforming to the specified constraints"
        elif value < low:
            yield f"{name} must not be less than {low}"
        elif value > high:
            yield f"{name} must not be greater than {high}"

    return rule


def _with(*required: str) -> Rule:
    """An object of one of many kinds, of which only the required texts are looked at."""

    def rule(name: str, value: Any) -> Iterator[str]:
        yield from _free(name, value)
        if isinstance(value, dict):
            for field in required:
                yield from _text(f"{name}.{field}", value.get(field))

    return rule


def _whole(rules: Mapping[str, Rule]) -> Rule:
    """An object with these fields and no other."""

    def rule(name: str, value: Any) -> Iterator[str]:
        yield from _free(name, value)
        if isinstance(value, dict):
            yield from _object(rules, f"{name}.", value)

    return rule


_SERVER: Final[Mapping[str, Rule]] = {
    "url": _text,
    "timeoutSeconds": _number(1, _MAX_TIMEOUT),
    "credentialId": _text,
    "headers": _free,
    "staticIpAddressesEnabled": _flag,
    "encryptedPaths": _list,
    "backoffPlan": _free,
}

_ASSISTANT: Final[Mapping[str, Rule]] = {
    "transcriber": _with("provider"),
    "model": _with("provider", "model"),
    "voice": _with("provider", "voiceId"),
    "firstMessage": _text,
    "firstMessageInterruptionsEnabled": _flag,
    "firstMessageMode": _mode,
    "voicemailDetection": _any,
    "clientMessages": _list,
    "serverMessages": _list,
    "maxDurationSeconds": _number(_MIN_DURATION, _MAX_DURATION),
    "backgroundSound": _text,
    "modelOutputInMessagesEnabled": _flag,
    "transportConfigurations": _list,
    "observabilityPlan": _free,
    "credentials": _list,
    "hooks": _list,
    "name": _name,
    "voicemailMessage": _text,
    "endCallMessage": _text,
    "endCallPhrases": _list,
    "compliancePlan": _free,
    "metadata": _free,
    "backgroundSpeechDenoisingPlan": _free,
    "analysisPlan": _free,
    "artifactPlan": _free,
    "startSpeakingPlan": _free,
    "stopSpeakingPlan": _free,
    "monitorPlan": _free,
    "credentialIds": _list,
    "server": _whole(_SERVER),
    "keypadInputPlan": _free,
}
