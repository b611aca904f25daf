-- For psql, as the superuser: makes the two roles of docs/database.md, and gives tables that are there already to the
-- owner. It can be run again.
\set ON_ERROR_STOP on
\getenv owner_password DB_OWNER_PASSWORD
\getenv service_password DB_PASSWORD
SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['servease_owner', 'servease_service']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE servease_owner PASSWORD :'owner_password';
ALTER ROLE servease_service PASSWORD :'service_password';
GRANT USAGE, CREATE ON SCHEMA public TO servease_owner;
GRANT USAGE ON SCHEMA public TO servease_service;
SELECT format('ALTER TABLE public.%I OWNER TO servease_owner', tablename)
FROM pg_tables WHERE schemaname = 'public' AND tableowner <> 'servease_owner' \gexec
SELECT format('ALTER ROUTINE public.%I(%s) OWNER TO servease_owner', proname, pg_get_function_identity_arguments(p.oid))
FROM pg_proc AS p
WHERE pronamespace = 'public'::regnamespace AND pg_get_userbyid(proowner) <> 'servease_owner'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype IN ('e', 'i')) \gexec
SELECT format('ALTER TYPE public.%I OWNER TO servease_owner', typname)
FROM pg_type AS t
WHERE typnamespace = 'public'::regnamespace AND typtype IN ('d', 'e', 'r') AND pg_get_userbyid(typowner) <> 'servease_owner'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = t.oid AND deptype = 'e') \gexec
