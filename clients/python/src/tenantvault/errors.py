"""Everything that can go wrong, as classes. Servers raise them, clients get the same class back.

    TenantVaultError
    ├── InvalidRequest              a field is missing or malformed; `fields` names each
    │   ├── DeadlineRequired
    │   └── OAuthStateInvalid
    ├── Unauthenticated
    ├── PermissionDenied
    ├── NotFound
    │   ├── CredentialNotFound
    │   ├── ResourceNotFound
    │   └── VersionNotFound
    ├── Conflict
    │   ├── VersionConflict
    │   ├── ResourceConflict
    │   └── LeaseHeld               retryable
    ├── ProviderRefused             the provider said no; `fields` names what to mend
    │   ├── InvalidCredentials
    │   ├── WrongCredentialType
    │   ├── InsufficientScope
    │   ├── AccountSuspended
    │   ├── QuotaExceeded
    │   ├── ProviderResourceMissing
    │   ├── ProviderValidation
    │   ├── ProviderConflict
    │   ├── ReauthRequired
    │   └── ConsentDenied
    ├── ProviderUnreachable         the provider gave no answer; retryable
    │   ├── RateLimited
    │   ├── ProviderUnavailable
    │   ├── ProviderUnknownAnswer
    │   └── ProviderMisconfigured   not retryable: the operator has to act
    ├── Unavailable                 retryable
    │   ├── VaultUnavailable
    │   ├── AuditUnavailable
    │   └── DeadlineExceeded
    ├── OperatorForbids             an operator's doing stands against it
    │   ├── OrgFrozen
    │   ├── OrgShredded
    │   └── KeyNotEverywhere
    ├── CredentialUnreadable
    └── InternalError

Each leaf has a `reason`, which is stable and is documented in `proto/tenantvault/v1/error_reason.proto`, the name of
its gRPC status `code`, and whether the same call may succeed when it is made again (`retryable`). The message is a
sentence for people: it says what to do and never holds a secret.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final


class TenantVaultError(Exception):
    """The root. `retry_after` is in seconds. Every error can be pickled and copied, as pools of processes do."""

    reason: ClassVar[str]
    code: ClassVar[str]
    retryable: ClassVar[bool] = False
    sentence: ClassVar[str] = "Something went wrong."

    def __init__(
        self, message: str = "", *, fields: Mapping[str, str] | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message or self.sentence)
        self._fields = dict(fields or {})
        self.retry_after = retry_after

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self.args[0])

    @property
    def fields(self) -> Mapping[str, str]:
        """What is wrong with which field, by its name."""
        # Made anew each time: a view like this one cannot be pickled.
        return MappingProxyType(self._fields)


class InvalidRequest(TenantVaultError):
    """A field is missing or malformed."""

    reason = "INVALID_REQUEST"
    code = "INVALID_ARGUMENT"
    sentence = "The request is not valid."


class DeadlineRequired(InvalidRequest):
    """A call came without a deadline, or with one beyond the server's limit."""

    reason = "DEADLINE_REQUIRED"
    sentence = "Every call needs a deadline within the server's limit: set a timeout."


class OAuthStateInvalid(InvalidRequest):
    """A consent came back that was not begun in this browser session, or too long ago, or that came back before."""

    reason = "OAUTH_STATE_INVALID"
    sentence = "This sign-in was begun in another session, or too long ago, or it is over: start it again."


class Unauthenticated(TenantVaultError):
    """The caller could not be identified."""

    reason = "UNAUTHENTICATED"
    code = "UNAUTHENTICATED"
    sentence = "The caller could not be identified: sign in again, or check the client certificate."


class PermissionDenied(TenantVaultError):
    """The caller is known and may not do this."""

    reason = "PERMISSION_DENIED"
    code = "PERMISSION_DENIED"
    sentence = "This caller may not do that."


class NotFound(TenantVaultError):
    """What was asked for is not there."""

    code = "NOT_FOUND"


class CredentialNotFound(NotFound):
    """The org has no active credential for the provider."""

    reason = "CREDENTIAL_NOT_FOUND"
    sentence = "No active credential: connect this provider first."


class ResourceNotFound(NotFound):
    """No org that the caller may see has this resource."""

    reason = "RESOURCE_NOT_FOUND"
    sentence = "No org has this resource."


class VersionNotFound(NotFound):
    """The version does not exist, was never active or is destroyed."""

    reason = "VERSION_NOT_FOUND"
    sentence = "There is no such version that can be used: list the versions."


class Conflict(TenantVaultError):
    """The change does not fit what is stored."""

    code = "ABORTED"


class VersionConflict(Conflict):
    """Somebody else changed the integration meanwhile."""

    reason = "VERSION_CONFLICT"
    sentence = "The integration was changed meanwhile: read it again, then retry."


class ResourceConflict(Conflict):
    """The resource cannot be registered for this org."""

    reason = "RESOURCE_CONFLICT"
    code = "ALREADY_EXISTS"
    sentence = (
        "A number, account or assistant of this connection cannot be registered: use another, or ask the operator."
    )


class LeaseHeld(Conflict):
    """Other work on the same integration is under way."""

    reason = "LEASE_HELD"
    retryable = True
    sentence = "Another change to this integration is under way: try again in a moment."


class ProviderRefused(TenantVaultError):
    """The provider's definite no."""

    code = "FAILED_PRECONDITION"


class InvalidCredentials(ProviderRefused):
    """The provider does not recognise the credential."""

    reason = "INVALID_CREDENTIALS"
    sentence = "The provider does not recognise this credential: check it and try again."


class WrongCredentialType(ProviderRefused):
    """The credential is genuine and of the wrong kind."""

    reason = "WRONG_CREDENTIAL_TYPE"
    sentence = "This is a credential of the wrong kind."


class InsufficientScope(ProviderRefused):
    """The credential is genuine and lacks a permission."""

    reason = "INSUFFICIENT_SCOPE"
    sentence = "This credential lacks a permission that is needed."


class AccountSuspended(ProviderRefused):
    """The provider has suspended or closed the account."""

    reason = "ACCOUNT_SUSPENDED"
    sentence = "The provider has suspended or closed this account: contact the provider."


class QuotaExceeded(ProviderRefused):
    """The plan's allowance at the provider is spent."""

    reason = "QUOTA_EXCEEDED"
    sentence = "The plan's allowance at the provider is spent."


class ProviderResourceMissing(ProviderRefused):
    """What the connection needs does not exist in the provider's account."""

    reason = "PROVIDER_RESOURCE_MISSING"
    sentence = "The provider's account does not have what this connection needs."


class ProviderValidation(ProviderRefused):
    """The provider refused what it was asked to create."""

    reason = "PROVIDER_VALIDATION"
    sentence = "The provider refused the request as not valid."


class ProviderConflict(ProviderRefused):
    """Something else in the provider's account stands against it."""

    reason = "PROVIDER_CONFLICT"
    sentence = "Something else in the provider's account stands against it: look there, then try again."


class ReauthRequired(ProviderRefused):
    """The consent that a person gave is over."""

    reason = "REAUTH_REQUIRED"
    sentence = "The provider's consent is over: connect the account again."


class ConsentDenied(ProviderRefused):
    """The person did not give their consent."""

    reason = "CONSENT_DENIED"
    sentence = "The consent was not given, so nothing was connected: start again when you want to."


class ProviderUnreachable(TenantVaultError):
    """The provider gave no definite answer."""

    code = "UNAVAILABLE"
    retryable = True


class RateLimited(ProviderUnreachable):
    """The provider asks to slow down."""

    reason = "RATE_LIMITED"
    code = "RESOURCE_EXHAUSTED"
    sentence = "The provider asks to slow down: try again in a moment."


class ProviderUnavailable(ProviderUnreachable):
    """The provider could not be reached, timed out or failed."""

    reason = "PROVIDER_UNAVAILABLE"
    sentence = "The provider could not be reached: try again in a moment."


class ProviderUnknownAnswer(ProviderUnreachable):
    """The provider answered neither yes nor no."""

    reason = "PROVIDER_UNKNOWN_ANSWER"
    sentence = "The provider gave an unexpected answer: try again later."


class ProviderMisconfigured(ProviderUnreachable):
    """The provider refuses this deployment's own application; it says nothing about the customer's credential."""

    reason = "PROVIDER_MISCONFIGURED"
    code = "FAILED_PRECONDITION"
    retryable = False
    sentence = "This provider is not set up rightly here: the operator has to look at the log."


class Unavailable(TenantVaultError):
    """TenantVault itself could not answer in time."""

    code = "UNAVAILABLE"
    retryable = True


class VaultUnavailable(Unavailable):
    """The vault or its database cannot be reached."""

    reason = "VAULT_UNAVAILABLE"
    sentence = "TenantVault cannot answer now: try again in a moment."


class AuditUnavailable(Unavailable):
    """A read could not be written to the audit, so nothing was handed out."""

    reason = "AUDIT_UNAVAILABLE"
    sentence = "The read could not be audited, so nothing was handed out: try again in a moment."


class DeadlineExceeded(Unavailable):
    """It took too long: try again in a moment."""

    reason = "DEADLINE_EXCEEDED"
    code = "DEADLINE_EXCEEDED"
    sentence = "It took too long: try again in a moment."


class OperatorForbids(TenantVaultError):
    """What an operator did, or has not done yet, stands against it."""

    code = "FAILED_PRECONDITION"


class OrgFrozen(OperatorForbids):
    """The org is frozen: nothing of it is handed out."""

    reason = "ORG_FROZEN"
    sentence = "This organisation is frozen by an operator: nothing of it is handed out until that ends."


class OrgShredded(OperatorForbids):
    """The org was shredded: its keys are destroyed."""

    reason = "ORG_SHREDDED"
    sentence = "This organisation's keys were destroyed: nothing can be read or stored under its id."


class KeyNotEverywhere(OperatorForbids):
    """A vault that is running does not have the new master key yet, or that key is retired."""

    reason = "KEY_NOT_EVERYWHERE"
    sentence = "A running vault does not have the new master key yet: give it to all of them, then rotate."


class CredentialUnreadable(TenantVaultError):
    """The stored record cannot be opened."""

    reason = "CREDENTIAL_UNREADABLE"
    code = "DATA_LOSS"
    sentence = "The stored record cannot be opened: connect the provider again, and tell the operator."


class InternalError(TenantVaultError):
    """Something unexpected; its cause is in the server's log and nowhere else."""

    reason = "INTERNAL"
    code = "INTERNAL"
    sentence = "Something unexpected happened. It was logged: give the request id to the operator."


LEAVES: Final[tuple[type[TenantVaultError], ...]] = (
    InvalidRequest,
    DeadlineRequired,
    Unauthenticated,
    PermissionDenied,
    CredentialNotFound,
    ResourceNotFound,
    VersionConflict,
    ResourceConflict,
    LeaseHeld,
    InvalidCredentials,
    WrongCredentialType,
    InsufficientScope,
    AccountSuspended,
    QuotaExceeded,
    ProviderResourceMissing,
    ProviderValidation,
    RateLimited,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    VaultUnavailable,
    DeadlineExceeded,
    CredentialUnreadable,
    InternalError,
    OrgFrozen,
    OrgShredded,
    VersionNotFound,
    AuditUnavailable,
    KeyNotEverywhere,
    ReauthRequired,
    ProviderMisconfigured,
    ProviderConflict,
    OAuthStateInvalid,
    ConsentDenied,
)
"""Every class that has a reason, in the order of the proto's enum."""

BY_REASON: Final[Mapping[str, type[TenantVaultError]]] = MappingProxyType({leaf.reason: leaf for leaf in LEAVES})
"""The class for each reason."""
