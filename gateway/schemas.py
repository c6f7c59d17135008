"""What comes and goes over REST, as JSON Schema (2020-12), for /openapi.json.

Members may be added, so no answer forbids others; a request with others is refused.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway import fields, views
from gateway.names import camel
from gateway.problems import TABLE
from tenantvault.credentials import Provider
from tenantvault.v1.integration_service_pb2 import ProviderDescription

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
YES: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 1}
MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
ADDRESS: Final[Schema] = {"type": "string", "format": "uri"}
PROVIDER: Final[Schema] = {"type": "string", "enum": [str(provider) for provider in Provider]}
INTEGRATION: Final = "Integration"
EVENT: Final = "AuditEvent"
PROBLEM: Final = "Problem"

_RESOURCES: Final = {"inboundAssistantId": TEXT, "outboundAssistantId": TEXT, "phoneNumber": TEXT}


def listed(item: Schema) -> Schema:
    """A list of such items."""
    return {"type": "array", "items": item}


def members(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with these members."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def nullable(schema: Schema) -> Schema:
    """This or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def named(name: str) -> Schema:
    """One of `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def done(required: Mapping[str, Schema] | None = None, optional: Mapping[str, Schema] | None = None) -> Schema:
    """The answer to a call that was done."""
    return members({"success": {"const": True}, **(required or {})}, optional)


WARNED: Final = {"warnings": listed(TEXT)}

STATUS: Final = members({provider: named(INTEGRATION) for provider in Provider})
CONNECTED: Final = done(optional={**WARNED, **_RESOURCES, "account": TEXT})
TRIED: Final = done({"accepted": YES}, {**WARNED, "account": TEXT, "error": TEXT, "code": TEXT, "field": TEXT})
VERIFIED: Final = done({"connected": YES, "lastVerified": nullable(MOMENT), "error": nullable(TEXT)}, WARNED)
RECONNECTED: Final = done(
    {"connected": YES, "lastVerified": nullable(MOMENT), "error": nullable(TEXT)}, {**WARNED, **_RESOURCES}
)
DISCONNECTED: Final = done({"message": TEXT}, {"unreleased": listed(TEXT)})
ROTATED: Final = done({"connected": YES, "rotationDueAt": nullable(MOMENT)})
CONSENT_BEGUN: Final = done({"authorizationUrl": ADDRESS})
CONSENT_GIVEN: Final = done({"email": TEXT, "scopes": listed(TEXT)}, WARNED)
AUDIT: Final = members({"events": listed(named(EVENT)), "next": nullable(COUNT), "since": nullable(MOMENT)})
ACCESS: Final = members(
    {
        "since": MOMENT,
        "counts": listed(members({"service": TEXT, "provider": PROVIDER, "reads": COUNT, "lastReadAt": MOMENT})),
    }
)


def wellness(word: str) -> Schema:
    """The answer of a health endpoint."""
    return members({"status": {"const": word}})


def providers() -> Schema:
    """What the providers ask for."""
    return members({"providers": listed(_message(ProviderDescription.DESCRIPTOR, {"provider": PROVIDER}))})


def typed_in(names: Iterable[str]) -> Schema:
    """A body of these fields, as they are called in the contract. Which of them are needed, the service says."""
    field = {"type": ["string", "null"], "maxLength": fields.LONGEST}
    return {"type": "object", "properties": {camel(name): field for name in names}, "additionalProperties": False}


def components() -> dict[str, Schema]:
    """The schemas that have a name."""
    bodies = {f"{provider.name.title()}Fields": typed_in(names) for provider, names in fields.TYPED_IN.items()}
    return {INTEGRATION: _integration(), EVENT: _event(), PROBLEM: _problem(), **bodies}


def _integration() -> Schema:
    optional = {
        **WARNED,
        **_RESOURCES,
        "lastVerified": MOMENT,
        "error": TEXT,
        "reason": TEXT,
        "hint": TEXT,
        "version": COUNT,
        "email": TEXT,
        "account": TEXT,
        "rotationDueAt": MOMENT,
        "rotatesByItself": YES,
    }
    return members({"connected": YES, "state": {"type": "string", "enum": list(views.STATES.values())}}, optional)


def _event() -> Schema:
    every = {
        "id": {"type": "string", "format": "uuid"},
        "sequence": COUNT,
        "at": MOMENT,
        "service": TEXT,
        "person": TEXT,
        "action": TEXT,
        "provider": PROVIDER,
        "version": COUNT,
        "outcome": {"type": "string", "description": "`ok`, or the reason why not."},
        "requestId": TEXT,
    }
    required = {name: schema for name, schema in every.items() if name not in views.MAY_LACK}
    return members(required, {name: every[name] for name in views.MAY_LACK})


def _problem() -> Schema:
    """RFC 9457, with the codes that the table has."""
    codes = [{"const": code, "title": row.title} for code, row in TABLE.items()]
    return members(
        {
            "type": ADDRESS,
            "title": TEXT,
            "status": {"type": "integer", "enum": sorted({row.status for row in TABLE.values()})},
            "detail": TEXT,
            "code": {"type": "string", "oneOf": codes},
            "success": {"const": False},
            "fields": {"type": "object", "additionalProperties": TEXT},
            "requestId": TEXT,
        }
    )


def _message(message: Descriptor, known: Mapping[str, Schema]) -> Schema:
    """A message of the contract as it is printed with all its members."""
    return members({field.json_name: known.get(field.json_name) or _field(field) for field in message.fields})


def _field(field: FieldDescriptor) -> Schema:
    if field.message_type is not None:
        schema = _message(field.message_type, {})
    else:
        schema = YES if field.type == FieldDescriptor.TYPE_BOOL else TEXT
    return listed(schema) if field.is_repeated else schema
