"""What a webhook's body calls its subject by."""

from dataclasses import dataclass

from tenantvault.credentials import ResourceKind


@dataclass(frozen=True, slots=True)
class Name:
    """An identifier at the provider, by which an org can be found.

    `binding` says that it is the receiving org's own: when it is another org's, the webhook is refused.
    """

    kind: ResourceKind
    resource_id: str
    binding: bool = True
