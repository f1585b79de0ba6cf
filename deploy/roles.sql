-- Who may do what in the kit's database. Run once by an administrator, in that database, with `psql --file`; passwords are
-- given afterwards, with \password. The owner changes tables, between releases; the processes read and write rows.
CREATE ROLE turnkeeper_owner LOGIN;
CREATE ROLE turnkeeper LOGIN;

CREATE SCHEMA turnkeeper AUTHORIZATION turnkeeper_owner;
GRANT USAGE ON SCHEMA turnkeeper TO turnkeeper;
ALTER ROLE turnkeeper_owner SET search_path = turnkeeper;
ALTER ROLE turnkeeper SET search_path = turnkeeper;

-- Of tables that are there, and that are still to come.
ALTER DEFAULT PRIVILEGES FOR ROLE turnkeeper_owner IN SCHEMA turnkeeper
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO turnkeeper;
ALTER DEFAULT PRIVILEGES FOR ROLE turnkeeper_owner IN SCHEMA turnkeeper
    GRANT USAGE ON SEQUENCES TO turnkeeper;
