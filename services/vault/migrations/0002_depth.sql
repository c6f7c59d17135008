-- Proofs under the org's key, versions that end, keys that rotate, a chained audit, and vaults that know of each other.
--
-- What was connected before this migration has no proof and is not handed out: connect it again. Events from before it
-- are kept in audit_events_unchained.

-- Frozen: nothing is handed out. Shredded: the keys are destroyed, and the row stays so that the id is not used again.
ALTER TABLE orgs ADD COLUMN state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'frozen', 'shredded'));

-- Staged: in a keyring, and never the one that wraps. Retired: nothing is wrapped under it, and nothing may be.
ALTER TABLE master_keys ADD COLUMN state text NOT NULL DEFAULT 'active' CHECK (state IN ('staged', 'active', 'retired'));

ALTER TABLE org_keys ADD COLUMN destroyed_at timestamptz;
ALTER TABLE org_keys ADD CHECK ((destroyed_at IS NULL) = (length(wrapped_key) > 0));
CREATE INDEX org_keys_master ON org_keys (master_key_id, org_id) WHERE destroyed_at IS NULL;
CREATE INDEX org_keys_old ON org_keys (org_id) WHERE NOT is_current AND destroyed_at IS NULL;

-- A version is destroyed by emptying it; nothing else about it ever changes but the key it is sealed under.
ALTER TABLE credential_versions ADD COLUMN activated_at timestamptz;
ALTER TABLE credential_versions ADD COLUMN destroyed_at timestamptz;
ALTER TABLE credential_versions ADD CHECK ((destroyed_at IS NULL) = (length(encrypted_config) > 0));
CREATE INDEX credential_versions_key ON credential_versions (org_id, key_id) WHERE destroyed_at IS NULL;

-- The pointer of an integration is version, latest_version, is_active, previous_*, registered and resources. The MAC
-- under the org's current key covers it together with the org's state and generation, so that neither a row that was
-- edited nor an older row that was put back is taken for the current one.
ALTER TABLE org_credentials
    ADD COLUMN previous_version  bigint NOT NULL DEFAULT 0,
    ADD COLUMN previous_until    timestamptz,
    ADD COLUMN registered        bigint NOT NULL DEFAULT 0,
    ADD COLUMN resources         integer NOT NULL DEFAULT 0,
    ADD COLUMN mac               bytea NOT NULL DEFAULT '';

-- registered, in the pointer, is the org's generation at which the integration's resources were registered. The MAC of a
-- row of the directory covers it, so that a row of earlier times is not taken for one of the integration's.
ALTER TABLE assistant_org_mapping DROP COLUMN key_id;

-- The audit: one chain for each org, and one, `_vault`, for what happened to the vault as a whole.
ALTER TABLE audit_events RENAME TO audit_events_unchained;
ALTER TABLE audit_events_unchained RENAME CONSTRAINT audit_events_pkey TO audit_events_unchained_pkey;
ALTER INDEX audit_events_newest RENAME TO audit_events_unchained_newest;
REVOKE ALL ON audit_events_unchained FROM tenantvault_app;

CREATE TABLE audit_events (
    event_id      uuid NOT NULL,
    org_id        text NOT NULL CHECK (org_id ~ '^([a-z0-9][a-z0-9_-]{0,62}|_vault)$'),
    -- Counted from 1 without a gap.
    sequence      bigint NOT NULL CHECK (sequence > 0),
    occurred_at   timestamptz NOT NULL,
    peer          text NOT NULL,
    on_behalf_of  text NOT NULL,
    action        text NOT NULL,
    provider      text NOT NULL,
    version       bigint NOT NULL,
    outcome       text NOT NULL,
    request_id    text NOT NULL,
    -- The org's generation that the event made; 0 of one that changed nothing.
    generation    bigint NOT NULL,
    -- SHA-256 over the event and the hash before it.
    hash          bytea NOT NULL,
    PRIMARY KEY (org_id, sequence),
    -- An event that is sent twice is there once.
    UNIQUE (org_id, event_id)
);

-- The end of each chain, signed.
CREATE TABLE audit_heads (
    org_id      text PRIMARY KEY,
    sequence    bigint NOT NULL,
    hash        bytea NOT NULL,
    signature   bytea NOT NULL,
    public_key  bytea NOT NULL
);

-- The key that signs the heads, wrapped under a master key like an org's.
CREATE TABLE signing_keys (
    key_id         text PRIMARY KEY,
    master_key_id  text NOT NULL REFERENCES master_keys,
    wrapped_key    bytea NOT NULL,
    public_key     bytea NOT NULL,
    is_current     boolean NOT NULL DEFAULT true,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX signing_keys_current ON signing_keys (is_current) WHERE is_current;

-- The vaults that run, as far as they were heard of: which master keys they have, and which one they wrap with.
CREATE TABLE vaults (
    vault_id     text PRIMARY KEY,
    seen_at      timestamptz NOT NULL,
    master_keys  text[] NOT NULL,
    wrapping     text NOT NULL
);

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['audit_events', 'audit_heads'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('CREATE POLICY own_org ON %I TO tenantvault_app '
                       'USING (org_id = current_setting(''tenantvault.org_id'', true)) '
                       'WITH CHECK (org_id = current_setting(''tenantvault.org_id'', true))', tenant_table);
    END LOOP;
END $$;

GRANT UPDATE (state) ON master_keys TO tenantvault_app;
GRANT UPDATE (key_id, encrypted_config, activated_at, destroyed_at) ON credential_versions TO tenantvault_app;
GRANT SELECT, INSERT ON audit_events TO tenantvault_app;
GRANT SELECT, INSERT, UPDATE ON audit_heads TO tenantvault_app;
GRANT SELECT, INSERT, UPDATE (master_key_id, wrapped_key) ON signing_keys TO tenantvault_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON vaults TO tenantvault_app;

-- Look-ups across orgs: what has moved on, and which orgs' keys are still to be wrapped anew, or sealed away from.
-- Names and counts, no keys.
GRANT SELECT (org_id, master_key_id, is_current, destroyed_at) ON org_keys TO tenantvault_lookup;
CREATE POLICY lookup ON org_keys FOR SELECT TO tenantvault_lookup USING (true);
GRANT SELECT (org_id, generation) ON orgs TO tenantvault_lookup;
CREATE POLICY lookup ON orgs FOR SELECT TO tenantvault_lookup USING (true);

CREATE FUNCTION generations_of(wanted_orgs text[]) RETURNS TABLE (org_id text, generation bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT o.org_id, o.generation FROM public.orgs o WHERE o.org_id = ANY(wanted_orgs) $$;

CREATE FUNCTION orgs_under_other_master_keys(wanted_master text, after_org text, at_most int) RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT DISTINCT org_id FROM public.org_keys
           WHERE master_key_id <> wanted_master AND destroyed_at IS NULL AND org_id > after_org
           ORDER BY org_id LIMIT at_most $$;

CREATE FUNCTION org_keys_by_master_key() RETURNS TABLE (master_key_id text, org_keys bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT k.master_key_id, count(*) FROM public.org_keys k WHERE k.destroyed_at IS NULL GROUP BY 1 $$;

CREATE FUNCTION orgs_with_old_keys(after_org text, at_most int) RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT DISTINCT org_id FROM public.org_keys
           WHERE NOT is_current AND destroyed_at IS NULL AND org_id > after_org
           ORDER BY org_id LIMIT at_most $$;

GRANT CREATE ON SCHEMA public TO tenantvault_lookup;
DO $$
DECLARE
    look_up text;
BEGIN
    FOREACH look_up IN ARRAY ARRAY['generations_of(text[])', 'orgs_under_other_master_keys(text, text, int)',
                                   'org_keys_by_master_key()', 'orgs_with_old_keys(text, int)'] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO tenantvault_lookup', look_up);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', look_up);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO tenantvault_app', look_up);
    END LOOP;
END $$;
REVOKE CREATE ON SCHEMA public FROM tenantvault_lookup;

-- The read path: one call, one round trip, for one credential or many. The context is set for the call's own
-- transaction, for one org after the other. What is inactive is told as such, with its proof and without its record.
-- Stable, so that all of it is of one moment: a resource's row must fit the pointer that it is proved against.
DROP FUNCTION resolve_resource(text, text, text);
DROP FUNCTION read_credential(text, text, boolean);

CREATE FUNCTION read_credentials(wanted_orgs text[], wanted_providers text[], newest boolean)
    RETURNS TABLE (place int, org_id text, org_state text, generation bigint, provider text,
                   version bigint, latest_version bigint, is_active boolean,
                   previous_version bigint, previous_until timestamptz, registered bigint, resources int, mac bytea,
                   last_verified_at timestamptz, mappings jsonb,
                   current_key_id text, current_master_key_id text, current_wrapped_key bytea,
                   record_version bigint, record bytea,
                   record_key_id text, record_master_key_id text, record_wrapped_key bytea,
                   previous_record bytea,
                   previous_key_id text, previous_master_key_id text, previous_wrapped_key bytea)
    LANGUAGE plpgsql STABLE SECURITY INVOKER
    AS $$
#variable_conflict use_column
BEGIN
    FOR i IN 1 .. cardinality(wanted_orgs) LOOP
        PERFORM set_config('tenantvault.org_id', wanted_orgs[i], true);
        RETURN QUERY
            SELECT i, o.org_id, o.state, o.generation, c.provider,
                   c.version, c.latest_version, c.is_active,
                   c.previous_version, c.previous_until, c.registered, c.resources, c.mac,
                   c.last_verified_at,
                   (SELECT jsonb_agg(jsonb_build_array(m.kind, m.resource_id, m.role, encode(m.mac, 'hex'))
                                     ORDER BY m.kind, m.role, m.resource_id)
                      FROM public.assistant_org_mapping m WHERE m.org_id = c.org_id AND m.provider = c.provider),
                   k.key_id, k.master_key_id, k.wrapped_key,
                   v.version, v.record, vk.key_id, vk.master_key_id, vk.wrapped_key,
                   p.encrypted_config, pk.key_id, pk.master_key_id, pk.wrapped_key
              FROM public.orgs o
              JOIN public.org_credentials c ON c.org_id = o.org_id
              LEFT JOIN public.org_keys k ON k.org_id = o.org_id AND k.is_current
              LEFT JOIN LATERAL (
                  SELECT c.version, c.encrypted_config AS record, c.key_id WHERE NOT newest AND c.is_active
                  UNION ALL
                  SELECT n.version, n.encrypted_config, n.key_id
                    FROM public.credential_versions n
                   WHERE newest AND n.org_id = c.org_id AND n.provider = c.provider AND n.version = c.latest_version
                     AND n.destroyed_at IS NULL AND (c.is_active OR c.version IS DISTINCT FROM n.version)
              ) v ON true
              LEFT JOIN public.org_keys vk ON vk.org_id = o.org_id AND vk.key_id = v.key_id
              LEFT JOIN public.credential_versions p
                     ON NOT newest AND c.is_active AND p.org_id = c.org_id AND p.provider = c.provider
                    AND p.version = c.previous_version AND p.destroyed_at IS NULL AND now() < c.previous_until
              LEFT JOIN public.org_keys pk ON pk.org_id = o.org_id AND pk.key_id = p.key_id
             WHERE o.org_id = wanted_orgs[i] AND c.provider = wanted_providers[i];
    END LOOP;
END $$;

-- The same for resources: each one's row of the directory with its integration, and the credential of the provider that
-- is named, if one is. An unknown resource takes the same steps with no org.
CREATE FUNCTION resolve_resources(wanted_kinds text[], wanted_ids text[])
    RETURNS TABLE (place int, org_id text, provider text, role text, mac bytea)
    LANGUAGE plpgsql STABLE SECURITY INVOKER
    AS $$
#variable_conflict use_column
BEGIN
    FOR i IN 1 .. cardinality(wanted_ids) LOOP
        PERFORM set_config('tenantvault.org_id',
                           coalesce(public.org_of_resource(wanted_kinds[i], wanted_ids[i]), ''), true);
        RETURN QUERY
            SELECT i, m.org_id, m.provider, m.role, m.mac
              FROM public.assistant_org_mapping m
             WHERE m.kind = wanted_kinds[i] AND m.resource_id = wanted_ids[i];
    END LOOP;
END $$;

-- Both in one call: the integration whose resource it is and, where another provider is named, that provider's
-- credential, each as read_credentials tells it.
CREATE FUNCTION resolve_credentials(wanted_kinds text[], wanted_ids text[], wanted_provider text)
    RETURNS TABLE (place int, mapped_org text, mapped_provider text, mapped_role text, mapped_mac bytea,
                   org_id text, org_state text, generation bigint, provider text,
                   version bigint, latest_version bigint, is_active boolean,
                   previous_version bigint, previous_until timestamptz, registered bigint, resources int, mac bytea,
                   last_verified_at timestamptz, mappings jsonb,
                   current_key_id text, current_master_key_id text, current_wrapped_key bytea,
                   record_version bigint, record bytea,
                   record_key_id text, record_master_key_id text, record_wrapped_key bytea,
                   previous_record bytea,
                   previous_key_id text, previous_master_key_id text, previous_wrapped_key bytea)
    LANGUAGE plpgsql STABLE SECURITY INVOKER
    AS $$
#variable_conflict use_column
DECLARE
    hit record;
BEGIN
    FOR hit IN SELECT * FROM public.resolve_resources(wanted_kinds, wanted_ids) LOOP
        RETURN QUERY
            SELECT hit.place, hit.org_id, hit.provider, hit.role, hit.mac,
                   r.org_id, r.org_state, r.generation, r.provider, r.version, r.latest_version,
                   r.is_active, r.previous_version, r.previous_until, r.registered, r.resources, r.mac,
                   r.last_verified_at, r.mappings,
                   r.current_key_id, r.current_master_key_id, r.current_wrapped_key,
                   r.record_version, r.record, r.record_key_id, r.record_master_key_id, r.record_wrapped_key,
                   r.previous_record, r.previous_key_id, r.previous_master_key_id, r.previous_wrapped_key
              FROM public.read_credentials(
                       array_fill(hit.org_id, ARRAY[CASE WHEN wanted_provider <> hit.provider THEN 2 ELSE 1 END]),
                       ARRAY[hit.provider, wanted_provider], false) r;
    END LOOP;
END $$;

-- Wrapping org keys anew: what there is of some orgs, and putting back what was wrapped. A row that changed meanwhile is
-- left alone.
CREATE FUNCTION keys_of_orgs(wanted_orgs text[])
    RETURNS TABLE (org_id text, key_id text, master_key_id text, wrapped_key bytea)
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
#variable_conflict use_column
BEGIN
    FOR i IN 1 .. cardinality(wanted_orgs) LOOP
        PERFORM set_config('tenantvault.org_id', wanted_orgs[i], true);
        RETURN QUERY SELECT k.org_id, k.key_id, k.master_key_id, k.wrapped_key FROM public.org_keys k
                      WHERE k.org_id = wanted_orgs[i] AND k.destroyed_at IS NULL;
    END LOOP;
END $$;

CREATE FUNCTION rewrap_org_keys(orgs text[], key_ids text[], old_wrapped bytea[], new_master text, new_wrapped bytea[])
    RETURNS int
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
DECLARE
    counted int;
    total   int := 0;
BEGIN
    FOR i IN 1 .. cardinality(orgs) LOOP
        PERFORM set_config('tenantvault.org_id', orgs[i], true);
        UPDATE public.org_keys SET master_key_id = new_master, wrapped_key = new_wrapped[i]
         WHERE org_id = orgs[i] AND key_id = key_ids[i] AND wrapped_key = old_wrapped[i] AND destroyed_at IS NULL;
        GET DIAGNOSTICS counted = ROW_COUNT;
        total := total + counted;
    END LOOP;
    RETURN total;
END $$;

-- Events that are to be chained: the ends of their chains, locked in one order, and which of the events are there
-- already; then the links, out of a temporary table that they were copied into. The last event is told beside the head:
-- a head that was set back must not stop what is to come.
CREATE FUNCTION lock_audit_heads(wanted_orgs text[])
    RETURNS TABLE (org_id text, sequence bigint, hash bytea, signature bytea, last bigint)
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
#variable_conflict use_column
DECLARE
    org text;
BEGIN
    FOR org IN SELECT DISTINCT w FROM unnest(wanted_orgs) w ORDER BY w LOOP
        PERFORM set_config('tenantvault.org_id', org, true);
        INSERT INTO public.audit_heads (org_id, sequence, hash, signature, public_key)
            VALUES (org, 0, decode(repeat('00', 32), 'hex'), '', '') ON CONFLICT DO NOTHING;
        RETURN QUERY SELECT h.org_id, h.sequence, h.hash, h.signature,
                            coalesce((SELECT max(e.sequence) FROM public.audit_events e WHERE e.org_id = org), 0)
                       FROM public.audit_heads h WHERE h.org_id = org FOR UPDATE;
    END LOOP;
END $$;

CREATE FUNCTION known_audit_events(wanted_orgs text[], wanted_events uuid[]) RETURNS SETOF uuid
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
BEGIN
    FOR i IN 1 .. cardinality(wanted_orgs) LOOP
        PERFORM set_config('tenantvault.org_id', wanted_orgs[i], true);
        RETURN QUERY SELECT e.event_id FROM public.audit_events e
                      WHERE e.org_id = wanted_orgs[i] AND e.event_id = wanted_events[i];
    END LOOP;
END $$;

CREATE FUNCTION keep_audit_heads(orgs text[], sequences bigint[], hashes bytea[], signatures bytea[], public_key bytea)
    RETURNS void
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
#variable_conflict use_column
BEGIN
    FOR i IN 1 .. cardinality(orgs) LOOP
        PERFORM set_config('tenantvault.org_id', orgs[i], true);
        UPDATE public.audit_heads
           SET sequence = sequences[i], hash = hashes[i], signature = signatures[i],
               public_key = keep_audit_heads.public_key
         WHERE org_id = orgs[i];
    END LOOP;
END $$;

CREATE FUNCTION keep_audit_events() RETURNS void
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
DECLARE
    batch   record;
    context text := '';
BEGIN
    FOR batch IN SELECT * FROM pg_temp.audit_batch ORDER BY org_id, sequence LOOP
        IF batch.org_id <> context THEN
            context := batch.org_id;
            PERFORM set_config('tenantvault.org_id', context, true);
        END IF;
        INSERT INTO public.audit_events (event_id, org_id, sequence, occurred_at, peer, on_behalf_of, action, provider,
                                         version, outcome, request_id, generation, hash)
            VALUES (batch.event_id, batch.org_id, batch.sequence, batch.occurred_at, batch.peer, batch.on_behalf_of,
                    batch.action, batch.provider, batch.version, batch.outcome, batch.request_id, batch.generation,
                    batch.hash);
    END LOOP;
END $$;
