-- What an integration lives by after it was connected: what its provider said, the work that comes due, and the consents
-- that people were sent to.

-- Only people look at these.
ALTER TABLE org_credentials
    ADD COLUMN verification_reason  text,
    ADD COLUMN warnings             text[] NOT NULL DEFAULT '{}',
    ADD COLUMN account              text NOT NULL DEFAULT '';

-- Work that comes due again and again. The integration's own state decides whether it is done: the rows of one that is
-- disconnected, or of an org that is frozen, stay and wait. They say so themselves too, so that looking for what is due
-- does not come past them.
CREATE TABLE tasks (
    org_id        text NOT NULL,
    provider      text NOT NULL,
    task          text NOT NULL CHECK (task IN ('verify', 'refresh', 'rotate')),
    due_at        timestamptz NOT NULL,
    -- The customer has to do it: it is shown, and no worker gets it.
    by_hand       boolean NOT NULL DEFAULT false,
    waits         boolean NOT NULL DEFAULT false,
    owner         text NOT NULL DEFAULT '',
    leased_until  timestamptz,
    -- How often it was taken since it last went well.
    attempts      integer NOT NULL DEFAULT 0,
    progress      text NOT NULL DEFAULT '',
    -- When it was last given back.
    finished_at   timestamptz,
    PRIMARY KEY (org_id, provider, task),
    FOREIGN KEY (org_id, provider) REFERENCES org_credentials
);
CREATE INDEX tasks_due ON tasks (due_at) WHERE NOT by_hand AND NOT waits;

-- Consents under way. The state itself is with the person's browser, and so is what the binding is made of: SHA-256 both.
CREATE TABLE oauth_states (
    org_id      text NOT NULL REFERENCES orgs,
    state_hash  bytea NOT NULL CHECK (length(state_hash) = 32),
    provider    text NOT NULL,
    binding     bytea NOT NULL CHECK (length(binding) = 32),
    kept_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (org_id, state_hash)
);

-- What was ever connected is tested from now on, not all of it at once; what is disconnected, from when it is connected
-- again. Of keys that are a quarter of a year old the customer is reminded, and not of all the old ones at once: nobody
-- was told, when these were connected, that some can be replaced without the customer. That begins with the next connect.
-- The owner is fenced off too (FORCE), and no policy is for it.
ALTER TABLE org_credentials NO FORCE ROW LEVEL SECURITY;
ALTER TABLE orgs NO FORCE ROW LEVEL SECURITY;
INSERT INTO tasks (org_id, provider, task, due_at, waits)
    SELECT c.org_id, c.provider, 'verify', now() + random() * interval '1 day', NOT c.is_active OR o.state <> 'active'
      FROM org_credentials c JOIN orgs o ON o.org_id = c.org_id
     WHERE c.version IS NOT NULL AND o.state <> 'shredded';
INSERT INTO tasks (org_id, provider, task, due_at, by_hand, waits)
    SELECT c.org_id, c.provider, 'rotate',
           greatest(c.connected_at + interval '90 days', now() + (1 + random() * 13) * interval '1 day'),
           true, NOT c.is_active OR o.state <> 'active'
      FROM org_credentials c JOIN orgs o ON o.org_id = c.org_id
     WHERE c.version IS NOT NULL AND o.state <> 'shredded' AND c.provider IN ('vapi', 'twilio');
ALTER TABLE orgs FORCE ROW LEVEL SECURITY;
ALTER TABLE org_credentials FORCE ROW LEVEL SECURITY;

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['tasks', 'oauth_states'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('CREATE POLICY own_org ON %I TO tenantvault_app '
                       'USING (org_id = current_setting(''tenantvault.org_id'', true)) '
                       'WITH CHECK (org_id = current_setting(''tenantvault.org_id'', true))', tenant_table);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON tasks TO tenantvault_app;
GRANT SELECT, INSERT, DELETE ON oauth_states TO tenantvault_app;

-- Taking work is the one change across orgs. It sees no credential, and changes nothing but who has a task.
GRANT SELECT (org_id, provider, task, due_at, by_hand, waits, leased_until, attempts, progress),
      UPDATE (owner, leased_until, attempts) ON tasks TO tenantvault_lookup;
CREATE POLICY lookup ON tasks FOR SELECT TO tenantvault_lookup USING (true);
CREATE POLICY claim ON tasks FOR UPDATE TO tenantvault_lookup USING (true) WITH CHECK (true);
GRANT SELECT (org_id, provider, is_active) ON org_credentials TO tenantvault_lookup;
CREATE POLICY lookup ON org_credentials FOR SELECT TO tenantvault_lookup USING (true);
GRANT SELECT (state) ON orgs TO tenantvault_lookup;

CREATE FUNCTION claim_due_work(new_owner text, lease interval, at_most int)
    RETURNS TABLE (org_id text, provider text, task text, attempts int, progress text, due_at timestamptz)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
        WITH due AS (
            SELECT t.org_id, t.provider, t.task
              FROM public.tasks t
              JOIN public.org_credentials c ON c.org_id = t.org_id AND c.provider = t.provider
              JOIN public.orgs o ON o.org_id = t.org_id
             -- now(), which the index can be searched for: what is not due yet is not looked at.
             WHERE NOT t.by_hand AND NOT t.waits AND t.due_at <= now()
               AND (t.leased_until IS NULL OR t.leased_until <= clock_timestamp())
               AND c.is_active AND o.state = 'active'
             ORDER BY t.due_at LIMIT at_most
             -- What somebody else is about to take is passed by, not waited for.
               FOR UPDATE OF t SKIP LOCKED
        ), taken AS (
            UPDATE public.tasks t
               SET owner = new_owner, leased_until = clock_timestamp() + lease, attempts = t.attempts + 1
              FROM due
             WHERE t.org_id = due.org_id AND t.provider = due.provider AND t.task = due.task
            RETURNING t.org_id, t.provider, t.task, t.attempts, t.progress, t.due_at
        )
        SELECT * FROM taken ORDER BY taken.due_at
    $$;
GRANT CREATE ON SCHEMA public TO tenantvault_lookup;
ALTER FUNCTION claim_due_work(text, interval, int) OWNER TO tenantvault_lookup;
REVOKE CREATE ON SCHEMA public FROM tenantvault_lookup;
REVOKE ALL ON FUNCTION claim_due_work(text, interval, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_due_work(text, interval, int) TO tenantvault_app;
