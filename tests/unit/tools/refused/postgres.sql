SELECT id FROM invoices WHERE id = ALL(ARRAY[length(card)])
SELECT id FROM invoices WHERE id <> ALL(SELECT id FROM users)
SELECT id FROM invoices WHERE id = SOME((SELECT array_agg(id) FROM users))
SELECT id FROM invoices WHERE id = ALL(evil('x'))
SELECT id FROM invoices WHERE id = "all"(ARRAY[1])
SELECT '{invoices}'::regclass[]
SELECT '{invoices}'::invoices[]
SELECT coalesce(card -> 'a') FROM invoices
SELECT coalesce((id, card) -> 'a') FROM invoices
SELECT coalesce(id => card) FROM invoices
SELECT card FROM invoices
SELECT CARD FROM invoices
SELECT "card" FROM invoices
SELECT U&"c\0061rd" FROM invoices
SELECT U&"d\0061t\+000061" FROM invoices
SELECT invoices.card FROM invoices
SELECT public.invoices.card FROM invoices
SELECT postgres.public.invoices.card FROM invoices
SELECT card AS card FROM invoices
SELECT id FROM invoices ORDER BY card
SELECT id FROM invoices WHERE card LIKE 'h%'
SELECT id FROM invoices GROUP BY id HAVING max(card) > 'h'
SELECT DISTINCT ON (card) id FROM invoices
SELECT count(*) FILTER (WHERE card > 'h') FROM invoices
SELECT string_agg(customer, ',' ORDER BY card) FROM invoices
SELECT rank() OVER (ORDER BY card) FROM invoices
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY card) FROM invoices
SELECT a.id FROM invoices a JOIN invoices b USING (card)
SELECT a.id FROM invoices a JOIN invoices b ON a.card = b.card
SELECT (SELECT card FROM invoices LIMIT 1)
SELECT 1 FROM plans WHERE EXISTS (SELECT 1 FROM invoices WHERE card = name)
SELECT * FROM invoices, LATERAL (SELECT card) x
SELECT * FROM invoices CROSS JOIN LATERAL (SELECT invoices.card) x
SELECT invoices FROM invoices
SELECT i FROM invoices i
SELECT i FROM invoices AS i(a, b)
SELECT (i) FROM invoices i
SELECT (i).card FROM invoices i
SELECT (i).* FROM invoices i
SELECT (invoices.*).card FROM invoices
SELECT ROW(invoices.*) FROM invoices
SELECT i.*::text FROM invoices i
SELECT i::text FROM invoices i
SELECT CAST(i AS text) FROM invoices i
SELECT count(i) FROM invoices i
SELECT count(DISTINCT i) FROM invoices i
SELECT i = i FROM invoices i
SELECT id FROM invoices i ORDER BY i
SELECT id FROM invoices i WHERE i IS NOT NULL
SELECT max(i) FROM invoices i
SELECT row_to_json(invoices) FROM invoices
SELECT row_to_json(i) FROM invoices i
SELECT to_json(i) FROM invoices i
SELECT to_jsonb(i) FROM invoices i
SELECT json_agg(i) FROM invoices i
SELECT jsonb_agg(i) FROM invoices i
SELECT json_build_object('a', i) FROM invoices i
SELECT array_agg(i) FROM invoices i
SELECT hstore(i) FROM invoices i
SELECT concat(i) FROM invoices i
SELECT i.row_to_json FROM invoices i
SELECT i.length FROM invoices i
SELECT invoices.to_jsonb FROM invoices
SELECT length(i) FROM invoices i
SELECT (SELECT i FROM plans LIMIT 1) FROM invoices i
SELECT x FROM (SELECT * FROM invoices) x
WITH x AS (SELECT * FROM invoices) SELECT x FROM x
SELECT ctid FROM invoices
SELECT xmin, xmax, cmin, cmax FROM invoices
SELECT tableoid FROM invoices
SELECT invoices.ctid FROM invoices
SELECT * FROM users
SELECT * FROM public.users
SELECT * FROM public.invoices
SELECT * FROM postgres.public.users
SELECT * FROM "users"
SELECT * FROM U&"us\0065rs"
SELECT * FROM ONLY users
SELECT * FROM ONLY invoices
SELECT * FROM users*
TABLE users
SELECT id FROM items
SELECT * FROM billing.users
SELECT * FROM other.items
SELECT mixed FROM billing.items
SELECT * FROM pg_catalog.pg_authid
SELECT * FROM pg_authid
SELECT * FROM pg_shadow
SELECT * FROM pg_user
SELECT * FROM pg_roles
SELECT * FROM pg_class
SELECT * FROM pg_stat_activity
SELECT * FROM pg_settings
SELECT * FROM pg_file_settings
SELECT * FROM pg_hba_file_rules
SELECT * FROM pg_largeobject
SELECT * FROM pg_stats
SELECT * FROM information_schema.tables
SELECT * FROM information_schema.columns
SELECT * FROM pg_temp.x
SELECT * FROM pg_toast.x
SELECT pg_class.relname FROM invoices
WITH pg_authid AS (SELECT 1 AS a) SELECT b.* FROM pg_authid, LATERAL (SELECT * FROM pg_catalog.pg_authid) b
WITH x AS (SELECT * FROM users), users AS (SELECT 1) SELECT * FROM x
WITH x AS (SELECT * FROM pg_authid), pg_authid AS (SELECT 1) SELECT * FROM x
SELECT * FROM (WITH users AS (SELECT 1) SELECT 2) y, users
SELECT * FROM (WITH pg_authid AS (SELECT 1) SELECT 2) y, pg_authid
SELECT pg_read_file('/etc/passwd')
SELECT pg_read_binary_file('/etc/passwd')
SELECT pg_ls_dir('/')
SELECT * FROM pg_ls_dir('/')
SELECT * FROM ROWS FROM (pg_ls_dir('/'))
SELECT pg_stat_file('/etc/passwd')
SELECT pg_sleep(60)
SELECT PG_SLEEP(1)
SELECT "pg_sleep"(60)
SELECT U&"pg_sl\0065ep"(1)
SELECT pg_catalog.pg_sleep(60)
SELECT pg_catalog."pg_sleep"(60)
SELECT /**/pg_sleep/**/(60)
SELECT pg_sleep_for('60 s')
SELECT upper(pg_read_file('/etc/passwd'))
SELECT id FROM invoices WHERE pg_sleep(60) IS NULL
SELECT id FROM invoices ORDER BY pg_sleep(60)
SELECT CASE WHEN true THEN pg_sleep(60) END
SELECT count(*) FILTER (WHERE pg_sleep(60) IS NULL) FROM invoices
SELECT sum(id) OVER (ORDER BY pg_sleep(60)) FROM invoices
SELECT id FROM invoices LIMIT pg_sleep(60)
VALUES (pg_sleep(60))
SELECT * FROM (VALUES (pg_sleep(60))) x
SELECT lo_import('/etc/passwd')
SELECT lo_export(1, '/tmp/x')
SELECT lo_get(1)
SELECT lo_from_bytea(0, 'x')
SELECT lo_unlink(1)
SELECT dblink('host=127.0.0.1', 'select 1')
SELECT dblink_connect('x')
SELECT * FROM dblink('x', 'y') AS t(a int)
SELECT query_to_xml('select * from users', true, true, '')
SELECT table_to_xml('users', true, true, '')
SELECT database_to_xml(true, true, '')
SELECT cursor_to_xml('x', 1, true, true, '')
SELECT xpath('/x', '<x/>')
SELECT xmlparse(DOCUMENT '<x/>')
SELECT xmlelement(name x)
SELECT ts_stat('select password from users')
SELECT ts_rewrite('a', 'select 1')
SELECT current_setting('data_directory')
SELECT set_config('search_path', 'public', false)
SELECT inet_server_addr()
SELECT version()
SELECT current_database()
SELECT current_schema()
SELECT current_schemas(true)
SELECT current_user
SELECT session_user
SELECT user
SELECT current_catalog
SELECT current_role
SELECT current_query()
SELECT pg_backend_pid()
SELECT pg_terminate_backend(1)
SELECT pg_cancel_backend(1)
SELECT pg_reload_conf()
SELECT pg_advisory_lock(1)
SELECT pg_try_advisory_lock(1)
SELECT pg_notify('a', 'b')
SELECT pg_switch_wal()
SELECT pg_create_restore_point('x')
SELECT pg_export_snapshot()
SELECT pg_get_viewdef('x')
SELECT pg_get_functiondef(1)
SELECT pg_relation_size('users')
SELECT pg_total_relation_size('users')
SELECT has_table_privilege('users', 'select')
SELECT to_regclass('users')
SELECT obj_description(1)
SELECT col_description(1, 1)
SELECT txid_current()
SELECT nextval('counter')
SELECT setval('counter', 5)
SELECT currval('counter')
SELECT lastval()
SELECT evil('x')
SELECT public.evil('x')
SELECT repeat('x', 1000000000)
SELECT lpad('x', 1000000000)
SELECT format('%1000000000s', 'x')
SELECT generate_series(1, 1000000000)
SELECT * FROM generate_series(1, 1000000000)
SELECT unnest(ARRAY[1, 2])
SELECT * FROM unnest(ARRAY[1, 2])
SELECT json_populate_record(NULL::invoices, '{}')
SELECT * FROM json_to_recordset('[]') AS x(a int)
SELECT * FROM json_each('{}')
SELECT * FROM XMLTABLE('/x' PASSING '<x/>' COLUMNS a int)
SELECT * FROM JSON_TABLE('{}', '$' COLUMNS (a int PATH '$'))
SELECT 'users'::regclass
SELECT CAST('users' AS regclass)
SELECT 'pg_read_file'::regproc
SELECT 'upper(text)'::regprocedure
SELECT 1::oid::regclass
SELECT regclass 'users'
SELECT 'users'::"regclass"
SELECT 'users'::pg_catalog.regclass
SELECT '(1,2,3,4)'::invoices
SELECT NULL::users
SELECT '<x/>'::xml
SELECT 'x'::name
SELECT 1 OPERATOR(public.===) 1
SELECT 1 OPERATOR(pg_catalog.+) 1
INSERT INTO invoices VALUES (9)
UPDATE invoices SET amount = 0
DELETE FROM invoices
MERGE INTO invoices USING plans ON true WHEN MATCHED THEN DELETE
TRUNCATE invoices
WITH x AS (DELETE FROM invoices RETURNING *) SELECT * FROM x
WITH x AS (INSERT INTO invoices VALUES (9) RETURNING *) SELECT * FROM x
WITH x AS (UPDATE invoices SET amount = 0 RETURNING *) SELECT * FROM x
WITH x AS (MERGE INTO invoices USING plans ON true WHEN MATCHED THEN DELETE RETURNING *) SELECT * FROM x
WITH x AS (SELECT 1) DELETE FROM invoices
WITH a AS (WITH b AS (DELETE FROM invoices RETURNING *) SELECT * FROM b) SELECT * FROM a
SELECT * FROM (DELETE FROM invoices RETURNING *) x
SELECT id INTO x FROM invoices
SELECT id INTO TEMP x FROM invoices
SELECT * FROM invoices FOR UPDATE
SELECT * FROM invoices FOR NO KEY UPDATE
SELECT * FROM invoices FOR SHARE
SELECT * FROM invoices FOR KEY SHARE
SELECT * FROM (SELECT * FROM invoices FOR UPDATE) x
CREATE TABLE x (y int)
CREATE TABLE x AS SELECT 1
CREATE TEMP TABLE x AS SELECT 1
CREATE FUNCTION x() RETURNS int AS 'select 1' LANGUAGE sql
CREATE EXTENSION dblink
CREATE ROLE x SUPERUSER
ALTER TABLE invoices OWNER TO x
ALTER ROLE owner SUPERUSER
ALTER SYSTEM SET x = 1
DROP TABLE invoices
COMMENT ON TABLE invoices IS 'x'
GRANT ALL ON users TO public
REVOKE ALL ON users FROM public
COPY invoices TO STDOUT
COPY invoices TO '/tmp/x'
COPY invoices TO PROGRAM 'id'
COPY invoices FROM PROGRAM 'id'
COPY (SELECT * FROM users) TO STDOUT
DO $$ BEGIN END $$
CALL x()
PREPARE x AS SELECT 1
EXECUTE x
DEALLOCATE ALL
DECLARE x CURSOR FOR SELECT 1
FETCH ALL FROM turnkeeper_rows
CLOSE ALL
MOVE 1 FROM x
BEGIN
COMMIT
ROLLBACK
START TRANSACTION READ WRITE
SAVEPOINT x
SET x = 1
SET ROLE postgres
SET SESSION AUTHORIZATION postgres
SET TRANSACTION READ WRITE
SET LOCAL statement_timeout = 0
SET default_transaction_read_only = off
RESET ALL
SHOW data_directory
SHOW ALL
DISCARD ALL
LISTEN x
NOTIFY x
UNLISTEN *
LOCK TABLE invoices
LOAD 'x'
VACUUM
ANALYZE
CLUSTER
CHECKPOINT
REINDEX TABLE invoices
REFRESH MATERIALIZED VIEW x
EXPLAIN SELECT 1
EXPLAIN ANALYZE DELETE FROM invoices
EXPLAIN (ANALYZE) SELECT * FROM users
SECURITY LABEL ON TABLE invoices IS 'x'
IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z
SELECT 1; SELECT 2
SELECT 1; DROP TABLE invoices
SELECT 1;COMMIT;DROP TABLE invoices;--
SELECT $$a$$
SELECT $x$a$x$
SELECT E'\\'
SELECT E'a\'; DROP TABLE invoices; --'
SELECT U&'\0061'
SELECT U&'!0061' UESCAPE '!'
SELECT B'1'
SELECT N'x'
SELECT $1
SELECT :a
SELECT %s
SELECT %(a)s
SELECT @x
SELECT ?
\d
\! id
\copy invoices to '/tmp/x'
SELECT 1 AS "a""b"
SELECT 1 AS "a;b"
SELECT extract("year FROM now()), pg_sleep(60) --", now())
SELECT date_trunc("x', now()), pg_sleep(60) --", now())
SELECT date_bin('1 day', now(), "now()), pg_sleep(60) --")
SELECT 'a' COLLATE "C"", pg_sleep(60)"
SELECT 'a' COLLATE "x"
SELECT id FROM invoices TABLESAMPLE BERNOULLI (1)
SELECT id FROM invoices GROUP BY card, id
SELECT max(id) FROM invoices HAVING max(card) > 'h'
