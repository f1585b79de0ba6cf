-- What the roles of deploy/roles.sql may do, of those that there are (docs/databases.md). By the owner of the tables, each
-- time after they were changed; it may be repeated.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'turnkeeper_app') THEN
        GRANT SELECT ON turnkeeper_schema, turnkeeper_items, turnkeeper_feed, turnkeeper_messages, turnkeeper_blobs
            TO turnkeeper_app;
        GRANT INSERT, UPDATE ON turnkeeper_items TO turnkeeper_app;
        GRANT INSERT ON turnkeeper_feed TO turnkeeper_app;
        GRANT INSERT, UPDATE, DELETE ON turnkeeper_messages, turnkeeper_blobs TO turnkeeper_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'turnkeeper_chores') THEN
        GRANT SELECT ON turnkeeper_schema, turnkeeper_items, turnkeeper_feed, turnkeeper_messages, turnkeeper_blobs
            TO turnkeeper_chores;
        GRANT INSERT, UPDATE, DELETE ON turnkeeper_items TO turnkeeper_chores;
        GRANT INSERT, DELETE ON turnkeeper_feed TO turnkeeper_chores;
        GRANT INSERT, UPDATE, DELETE ON turnkeeper_messages, turnkeeper_blobs TO turnkeeper_chores;
        GRANT SELECT, INSERT, UPDATE, DELETE ON turnkeeper_followers TO turnkeeper_chores;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'turnkeeper_keda') THEN
        GRANT SELECT (queue, visible_at, receives) ON turnkeeper_messages TO turnkeeper_keda;
    END IF;
END
$$
