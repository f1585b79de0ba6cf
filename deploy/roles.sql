-- Who there is in the kit's database. Once, by an administrator, in that database: `psql --file deploy/roles.sql`; passwords
-- are given afterwards, with \password. What each may do is granted by `python -m server migrate` (server/grants.sql).
CREATE ROLE turnkeeper_owner LOGIN;
CREATE ROLE turnkeeper_app LOGIN;
CREATE ROLE turnkeeper_chores LOGIN;
-- Counts messages for KEDA, where that is used.
CREATE ROLE turnkeeper_keda LOGIN;

CREATE SCHEMA turnkeeper AUTHORIZATION turnkeeper_owner;
GRANT USAGE ON SCHEMA turnkeeper TO turnkeeper_app, turnkeeper_chores, turnkeeper_keda;
ALTER ROLE turnkeeper_owner SET search_path = turnkeeper;
ALTER ROLE turnkeeper_app SET search_path = turnkeeper;
ALTER ROLE turnkeeper_chores SET search_path = turnkeeper;
ALTER ROLE turnkeeper_keda SET search_path = turnkeeper;
ALTER ROLE turnkeeper_app SET statement_timeout = '15s';
ALTER ROLE turnkeeper_chores SET statement_timeout = '60s';
ALTER ROLE turnkeeper_keda SET statement_timeout = '5s';
