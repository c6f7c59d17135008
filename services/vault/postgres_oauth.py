"""The states of OAuth consents, on PostgreSQL."""

import hmac
from datetime import timedelta

from services.vault.database import Connection, Pool, in_org
from services.vault.work import MOST_OAUTH_STATES, OAuthState
from tenantvault.errors import OAuthStateInvalid


class PostgresOAuthStates:
    """The port of consents under way on a pool of the application role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep_oauth_state(self, state: OAuthState, lasts: timedelta) -> None:
        """Keep a state, and let go of those that are over and of the oldest where there are too many."""
        async with in_org(self._pool, state.org_id) as db:
            await db.execute("INSERT INTO orgs (org_id) VALUES ($1) ON CONFLICT DO NOTHING", state.org_id)
            # One after the other, so that they are counted rightly.
            await db.execute("SELECT FROM orgs WHERE org_id = $1 FOR NO KEY UPDATE", state.org_id)
            await db.execute(
                "DELETE FROM oauth_states WHERE org_id = $1 AND (expires_at <= clock_timestamp() OR state_hash = $2)",
                state.org_id,
                state.state_hash,
            )
            await db.execute(
                "DELETE FROM oauth_states WHERE org_id = $1 AND state_hash IN (SELECT s.state_hash FROM oauth_states s"
                " WHERE s.org_id = $1 ORDER BY s.kept_at DESC OFFSET $2)",
                state.org_id,
                MOST_OAUTH_STATES - 1,
            )
            await db.execute(
                "INSERT INTO oauth_states (org_id, state_hash, provider, binding, expires_at)"
                " VALUES ($1, $2, $3, $4, clock_timestamp() + $5)",
                state.org_id,
                state.state_hash,
                state.provider,
                state.binding,
                lasts,
            )

    async def use_oauth_state(self, state: OAuthState) -> None:
        """Use a state up: it is gone whatever comes of comparing the rest of it."""
        async with in_org(self._pool, state.org_id) as db:
            kept = await db.fetchrow(
                "DELETE FROM oauth_states WHERE org_id = $1 AND state_hash = $2"
                " RETURNING provider, binding, expires_at > clock_timestamp() AS in_time",
                state.org_id,
                state.state_hash,
            )
        # Not inside: an error would put it back.
        if (
            kept is None
            or not kept["in_time"]
            or kept["provider"] != state.provider
            or not hmac.compare_digest(kept["binding"], state.binding)
        ):
            raise OAuthStateInvalid


async def forget_oauth_states(db: Connection, org_id: str) -> None:
    """Delete an org's states, in the transaction and the org's context that are open."""
    await db.execute("DELETE FROM oauth_states WHERE org_id = $1", org_id)
