-- Who counts messages for KEDA, and may do nothing else. After the first migration, by the owner of the tables or an
-- administrator.
CREATE ROLE turnkeeper_keda LOGIN;
ALTER ROLE turnkeeper_keda SET search_path = turnkeeper;
GRANT USAGE ON SCHEMA turnkeeper TO turnkeeper_keda;
GRANT SELECT (queue, visible_at, receives) ON turnkeeper.turnkeeper_messages TO turnkeeper_keda;
