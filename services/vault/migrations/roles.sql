-- The three roles, made once by an administrator of the cluster. None is a superuser, none passes by row-level security.
--   tenantvault_owner   owns the schema; migrations run as it
--   tenantvault_app     the vault logs in as it; it owns nothing
--   tenantvault_lookup  owns the one look-up across orgs; nobody logs in as it
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['tenantvault_owner', 'tenantvault_app', 'tenantvault_lookup'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I', wanted);
        END IF;
        EXECUTE format('ALTER ROLE %I NOCREATEDB NOCREATEROLE NOINHERIT', wanted);
    END LOOP;
END $$;
ALTER ROLE tenantvault_app LOGIN;
ALTER ROLE tenantvault_owner INHERIT;
GRANT tenantvault_lookup TO tenantvault_owner;
GRANT tenantvault_owner TO CURRENT_USER;
GRANT USAGE, CREATE ON SCHEMA public TO tenantvault_owner WITH GRANT OPTION;
-- So it is from PostgreSQL 15 on, and not in a cluster that was upgraded from an older one.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
