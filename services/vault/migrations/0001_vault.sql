-- The tables of the vault. Run as tenantvault_owner, which owns them; the vault logs in as tenantvault_app, which owns
-- nothing and sees an org's rows only inside a transaction that has set tenantvault.org_id.

CREATE TABLE orgs (
    org_id      text PRIMARY KEY CHECK (org_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    -- Counts every change to the org; a larger number is newer.
    generation  bigint NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- Master keys that ever were the one that wraps, so that a vault with a wrong key notices before it serves.
CREATE TABLE master_keys (
    master_key_id  text PRIMARY KEY,
    fingerprint    bytea NOT NULL,
    first_seen_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE org_keys (
    org_id         text NOT NULL REFERENCES orgs,
    key_id         text NOT NULL,
    master_key_id  text NOT NULL REFERENCES master_keys,
    wrapped_key    bytea NOT NULL,
    is_current     boolean NOT NULL DEFAULT true,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, key_id)
);
CREATE UNIQUE INDEX org_keys_current ON org_keys (org_id) WHERE is_current;

-- Every version of every credential, immutable.
CREATE TABLE credential_versions (
    org_id            text NOT NULL,
    provider          text NOT NULL,
    version           bigint NOT NULL CHECK (version > 0),
    key_id            text NOT NULL,
    encrypted_config  bytea NOT NULL,
    hint              text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, provider, version),
    FOREIGN KEY (org_id, key_id) REFERENCES org_keys
);

-- One row for each org and provider. encrypted_config is the active version's: null while there is none.
CREATE TABLE org_credentials (
    org_id              text NOT NULL REFERENCES orgs,
    provider            text NOT NULL,
    version             bigint,
    latest_version      bigint NOT NULL DEFAULT 0,
    key_id              text,
    encrypted_config    bytea,
    hint                text NOT NULL DEFAULT '',
    is_active           boolean NOT NULL DEFAULT false,
    connected_at        timestamptz,
    last_verified_at    timestamptz,
    verification_error  text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, provider),
    FOREIGN KEY (org_id, provider, version) REFERENCES credential_versions,
    CHECK ((version IS NULL) = (encrypted_config IS NULL) AND (version IS NULL) = (key_id IS NULL)),
    CHECK (version IS NOT NULL OR NOT is_active)
);

-- Which org a provider's resource belongs to. The MAC under the org's key shows a row that was changed from outside.
CREATE TABLE assistant_org_mapping (
    kind         text NOT NULL,
    resource_id  text NOT NULL,
    org_id       text NOT NULL,
    provider     text NOT NULL,
    role         text NOT NULL,
    key_id       text NOT NULL,
    mac          bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, resource_id),
    FOREIGN KEY (org_id, provider) REFERENCES org_credentials,
    FOREIGN KEY (org_id, key_id) REFERENCES org_keys
);
CREATE INDEX assistant_org_mapping_org ON assistant_org_mapping (org_id, provider);

-- What happened. No column can hold a credential.
CREATE TABLE audit_events (
    event_id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id        text NOT NULL REFERENCES orgs,
    -- The org's generation that the event made, and so its place among the org's events.
    generation    bigint NOT NULL,
    occurred_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    peer          text NOT NULL,
    on_behalf_of  text NOT NULL,
    action        text NOT NULL,
    provider      text NOT NULL,
    version       bigint,
    outcome       text NOT NULL,
    request_id    text NOT NULL
);
CREATE INDEX audit_events_newest ON audit_events (org_id, generation DESC);

-- Work that one worker at a time does for an org and provider, under a lease.
CREATE TABLE work (
    org_id        text NOT NULL REFERENCES orgs,
    provider      text NOT NULL,
    owner         text NOT NULL,
    leased_until  timestamptz NOT NULL,
    PRIMARY KEY (org_id, provider)
);

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['orgs', 'org_keys', 'credential_versions', 'org_credentials',
                                        'assistant_org_mapping', 'audit_events', 'work'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('CREATE POLICY own_org ON %I TO tenantvault_app '
                       'USING (org_id = current_setting(''tenantvault.org_id'', true)) '
                       'WITH CHECK (org_id = current_setting(''tenantvault.org_id'', true))', tenant_table);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA public TO tenantvault_app, tenantvault_lookup;
GRANT SELECT ON schema_migrations TO tenantvault_app;
GRANT SELECT, INSERT ON master_keys TO tenantvault_app;
GRANT SELECT, INSERT, UPDATE ON orgs, org_keys, org_credentials TO tenantvault_app;
GRANT SELECT, INSERT ON credential_versions, audit_events TO tenantvault_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON assistant_org_mapping, work TO tenantvault_app;

-- The one look-up across orgs: tenantvault_lookup, as which nobody logs in, may read the mapping and nothing else.
GRANT SELECT (kind, resource_id, org_id) ON assistant_org_mapping TO tenantvault_lookup;
CREATE POLICY lookup ON assistant_org_mapping FOR SELECT TO tenantvault_lookup USING (true);

CREATE FUNCTION org_of_resource(wanted_kind text, wanted_id text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT org_id FROM public.assistant_org_mapping WHERE kind = wanted_kind AND resource_id = wanted_id $$;
GRANT CREATE ON SCHEMA public TO tenantvault_lookup;
ALTER FUNCTION org_of_resource(text, text) OWNER TO tenantvault_lookup;
REVOKE CREATE ON SCHEMA public FROM tenantvault_lookup;
REVOKE ALL ON FUNCTION org_of_resource(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION org_of_resource(text, text) TO tenantvault_app;

-- The read path: one call, one round trip. The context is set for the call's own transaction.
CREATE FUNCTION read_credential(wanted_org text, wanted_provider text, newest boolean)
    RETURNS TABLE (version bigint, encrypted_config bytea, key_id text, master_key_id text, wrapped_key bytea,
                   last_verified_at timestamptz, generation bigint, resources jsonb)
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('tenantvault.org_id', wanted_org, true);
    RETURN QUERY
        SELECT v.version, v.encrypted_config, k.key_id, k.master_key_id, k.wrapped_key,
               c.last_verified_at, o.generation,
               (SELECT jsonb_agg(jsonb_build_array(m.kind, m.resource_id, m.role) ORDER BY m.kind, m.role, m.resource_id)
                  FROM public.assistant_org_mapping m WHERE m.org_id = c.org_id AND m.provider = c.provider)
          FROM public.org_credentials c
          JOIN public.orgs o ON o.org_id = c.org_id
          CROSS JOIN LATERAL (
              SELECT c.version, c.encrypted_config, c.key_id WHERE NOT newest AND c.is_active
              UNION ALL
              SELECT n.version, n.encrypted_config, n.key_id
                FROM public.credential_versions n
               WHERE newest AND n.org_id = c.org_id AND n.provider = c.provider AND n.version = c.latest_version
                 AND (c.is_active OR c.version IS DISTINCT FROM n.version)
          ) v
          JOIN public.org_keys k ON k.org_id = c.org_id AND k.key_id = v.key_id
         WHERE c.org_id = wanted_org AND c.provider = wanted_provider;
END $$;

-- The same for a resource: its mapping, the key that vouches for it and, where a provider is named, the credential.
-- An unknown resource takes the same steps with no org.
CREATE FUNCTION resolve_resource(wanted_kind text, wanted_id text, wanted_provider text)
    RETURNS TABLE (org_id text, mapped_provider text, role text, mac bytea,
                   mac_key_id text, mac_master_key_id text, mac_wrapped_key bytea,
                   version bigint, encrypted_config bytea, key_id text, master_key_id text, wrapped_key bytea,
                   last_verified_at timestamptz, generation bigint, resources jsonb)
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
#variable_conflict use_column
DECLARE
    found text := coalesce(public.org_of_resource(wanted_kind, wanted_id), '');
BEGIN
    PERFORM set_config('tenantvault.org_id', found, true);
    RETURN QUERY
        SELECT m.org_id, m.provider, m.role, m.mac, k.key_id, k.master_key_id, k.wrapped_key,
               r.version, r.encrypted_config, r.key_id, r.master_key_id, r.wrapped_key,
               r.last_verified_at, r.generation, r.resources
          FROM public.assistant_org_mapping m
          JOIN public.org_keys k ON k.org_id = m.org_id AND k.key_id = m.key_id
          LEFT JOIN public.read_credential(found, wanted_provider, false) r ON true
         WHERE m.kind = wanted_kind AND m.resource_id = wanted_id;
END $$;
