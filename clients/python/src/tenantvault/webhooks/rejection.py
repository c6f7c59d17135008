"""Why a webhook is not accepted."""

from enum import StrEnum


class Cause(StrEnum):
    """What was wrong, for our own log. The sender learns none of it."""

    NO_SIGNATURE = "no_signature"
    """What proves the sender is missing, or says nothing about the body."""
    BAD_SIGNATURE = "bad_signature"
    """The proof is not by a secret of this org, or over something else."""
    TOO_OLD = "too_old"
    """Rightly signed, and too long ago: late, or sent again by somebody who saw it."""
    TOO_NEW = "too_new"
    """Rightly signed, at a time that has not come yet: a clock is wrong."""
    MALFORMED = "malformed"
    """Not what this provider sends."""
    UNKNOWN_ORG = "unknown_org"
    """No org with a credential that can be read is meant."""
    OTHER_ORG = "other_org"
    """Rightly signed by one org, and naming what belongs to another."""
    TOO_LARGE = "too_large"
    """The body is larger than is read."""
    NOT_CONFIGURED = "not_configured"
    """The stored credential has no webhook secret, or one that cannot be used: a fault on our side."""


class WebhookRejected(Exception):
    """The webhook is not accepted. `cause` is for the log; answer every sender alike."""

    def __init__(self, cause: Cause) -> None:
        super().__init__("The webhook was not accepted.")
        self.cause = cause
