-- Events that were copied into the temporary table go into the audit org by org, not one by one: each statement is held
-- to its org by row-level security as before, and costs once what each event cost.
CREATE OR REPLACE FUNCTION keep_audit_events() RETURNS void
    LANGUAGE plpgsql SECURITY INVOKER
    AS $$
DECLARE
    context text;
BEGIN
    FOR context IN SELECT DISTINCT org_id FROM pg_temp.audit_batch ORDER BY org_id LOOP
        PERFORM set_config('tenantvault.org_id', context, true);
        INSERT INTO public.audit_events (event_id, org_id, sequence, occurred_at, peer, on_behalf_of, action, provider,
                                         version, outcome, request_id, generation, hash)
            SELECT event_id, org_id, sequence, occurred_at, peer, on_behalf_of, action, provider,
                   version, outcome, request_id, generation, hash
              FROM pg_temp.audit_batch WHERE org_id = context ORDER BY sequence;
    END LOOP;
END $$;
