-- Keys are wrapped anew only under a master key that is not retired, as new keys are. Whoever retires one holds its row:
-- what comes meanwhile waits for that, and finds the key retired.
CREATE OR REPLACE FUNCTION rewrap_org_keys(orgs text[], key_ids text[], old_wrapped bytea[], new_master text,
                                           new_wrapped bytea[])
    RETURNS int
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
DECLARE
    counted int;
    total   int := 0;
BEGIN
    PERFORM FROM public.master_keys WHERE master_key_id = new_master AND state <> 'retired' FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    FOR i IN 1 .. cardinality(orgs) LOOP
        PERFORM set_config('tenantvault.org_id', orgs[i], true);
        UPDATE public.org_keys SET master_key_id = new_master, wrapped_key = new_wrapped[i]
         WHERE org_id = orgs[i] AND key_id = key_ids[i] AND wrapped_key = old_wrapped[i] AND destroyed_at IS NULL;
        GET DIAGNOSTICS counted = ROW_COUNT;
        total := total + counted;
    END LOOP;
    RETURN total;
END $$;
