SELECT card FROM invoices
SELECT Card FROM invoices
SELECT "card" FROM invoices
SELECT [card] FROM invoices
SELECT `card` FROM invoices
SELECT invoices.card FROM invoices
SELECT i.card FROM invoices i
SELECT card AS card FROM invoices
SELECT card AS id FROM invoices
SELECT id AS card, card FROM invoices
SELECT 1 FROM invoices WHERE card LIKE 'h%'
SELECT id FROM invoices ORDER BY card
SELECT id FROM invoices ORDER BY invoices.card
SELECT id FROM invoices GROUP BY card
SELECT count(*) FROM invoices GROUP BY id HAVING max(card) > 'a'
SELECT max(card) FROM invoices
SELECT count(card) FROM invoices
SELECT count(DISTINCT card) FROM invoices
SELECT CASE WHEN card > 'h' THEN 1 END FROM invoices
SELECT id FROM invoices a JOIN invoices b ON a.card = b.card
SELECT id FROM invoices a JOIN invoices b USING (card)
SELECT (SELECT card FROM invoices LIMIT 1)
SELECT (SELECT card) FROM invoices
SELECT id FROM invoices o WHERE EXISTS (SELECT 1 FROM plans WHERE o.card = 'x')
SELECT x.card FROM (SELECT * FROM invoices) x
WITH x AS (SELECT * FROM invoices) SELECT card FROM x
WITH x AS (SELECT card FROM invoices) SELECT * FROM x
WITH card AS (SELECT 1) SELECT card FROM invoices
SELECT sum(amount) OVER (ORDER BY card) FROM invoices
SELECT sum(amount) OVER (PARTITION BY card) FROM invoices
SELECT count(*) FILTER (WHERE card > 'h') FROM invoices
SELECT id FROM invoices UNION SELECT card FROM invoices
SELECT id FROM invoices LIMIT (SELECT length(card) FROM invoices)
SELECT rowid FROM invoices
SELECT _rowid_ FROM invoices
SELECT oid FROM invoices
SELECT invoices.rowid FROM invoices
SELECT rowid FROM plans
SELECT invoices FROM invoices
SELECT * FROM users
SELECT password FROM users
SELECT * FROM Users
SELECT * FROM "users"
SELECT * FROM [users]
SELECT * FROM `users`
SELECT * FROM main.users
SELECT * FROM main.invoices
SELECT * FROM temp.invoices
SELECT * FROM invoices, users
SELECT * FROM invoices JOIN users
SELECT * FROM (SELECT * FROM users)
SELECT * FROM (users)
SELECT * FROM (invoices JOIN users)
SELECT 1 WHERE 1 IN (SELECT id FROM users)
SELECT 1 WHERE 1 IN users
SELECT 1 WHERE 1 IN (users)
SELECT id FROM invoices WHERE id IN invoices
SELECT (SELECT password FROM users)
SELECT EXISTS (SELECT 1 FROM users)
SELECT 1 UNION SELECT password FROM users
SELECT 1 UNION ALL SELECT * FROM (SELECT password FROM users)
WITH x AS (SELECT * FROM users) SELECT 1
WITH x AS (SELECT * FROM users) SELECT * FROM x
WITH invoices AS (SELECT * FROM users) SELECT * FROM invoices
WITH invoices AS (SELECT 1) SELECT * FROM invoices
WITH a AS (SELECT 1), a AS (SELECT 2) SELECT * FROM a
WITH x AS (SELECT * FROM main.users), users AS (SELECT 1) SELECT * FROM x
SELECT * FROM leaky
SELECT * FROM totals
SELECT * FROM sqlite_master
SELECT * FROM sqlite_schema
SELECT * FROM main.sqlite_master
SELECT * FROM sqlite_temp_master
SELECT * FROM sqlite_sequence
SELECT * FROM sqlite_stat1
SELECT * FROM dbstat
SELECT * FROM sqlite_dbpage
SELECT * FROM pragma_table_info('users')
SELECT * FROM pragma_database_list
SELECT * FROM pragma_database_list()
SELECT * FROM json_each('[1]')
SELECT * FROM json_tree('{}')
SELECT * FROM generate_series(1, 10)
SELECT * FROM fts5vocab
SELECT * FROM invoices INDEXED BY x
SELECT * FROM information_schema.tables
SELECT main.invoices.id FROM invoices
SELECT load_extension('x')
SELECT LOAD_EXTENSION('x', 'y')
SELECT "load_extension"('x')
SELECT [load_extension]('x')
SELECT `load_extension`('x')
SELECT readfile('/etc/passwd')
SELECT writefile('/tmp/x', 'y')
SELECT edit('x')
SELECT fts3_tokenizer('x')
SELECT zeroblob(100000000)
SELECT randomblob(100000000)
SELECT printf('%.*c', 100000000, 'x')
SELECT format('%.*c', 100000000, 'x')
SELECT sqlite_version()
SELECT sqlite_source_id()
SELECT sqlite_compileoption_get(1)
SELECT last_insert_rowid()
SELECT changes()
SELECT sqlite_offset(id) FROM invoices
SELECT quote(id) FROM invoices
SELECT eval('select 1')
SELECT upper(load_extension('x'))
SELECT id FROM invoices WHERE load_extension('x')
SELECT id FROM invoices ORDER BY load_extension('x')
SELECT count(*) FILTER (WHERE load_extension('x')) FROM invoices
SELECT sum(id) OVER (ORDER BY load_extension('x')) FROM invoices
SELECT CASE load_extension('x') WHEN 1 THEN 2 END
SELECT CAST(load_extension('x') AS TEXT)
VALUES (load_extension('x'))
WITH x AS (SELECT load_extension('x')) SELECT 1
SELECT id FROM invoices LIMIT load_extension('x')
SELECT main.upper('x')
INSERT INTO invoices VALUES (9, 9, 'x', 'y')
INSERT INTO invoices SELECT * FROM invoices
REPLACE INTO invoices VALUES (9, 9, 'x', 'y')
UPDATE invoices SET amount = 0
DELETE FROM invoices
WITH x AS (SELECT 1) DELETE FROM invoices
WITH x AS (SELECT 1) INSERT INTO invoices SELECT * FROM x
WITH x AS (DELETE FROM invoices RETURNING *) SELECT * FROM x
WITH x AS (INSERT INTO invoices VALUES (1) RETURNING id) SELECT id FROM x
WITH x AS (UPDATE invoices SET amount = 0 RETURNING *) SELECT * FROM x
SELECT * FROM (DELETE FROM invoices RETURNING *)
MERGE INTO invoices USING plans ON 1 = 1 WHEN MATCHED THEN DELETE
TRUNCATE TABLE invoices
DROP TABLE invoices
DROP VIEW totals
ALTER TABLE invoices RENAME TO x
ALTER TABLE invoices ADD COLUMN x
CREATE TABLE x (y)
CREATE TABLE x AS SELECT * FROM invoices
CREATE TEMP TABLE x AS SELECT 1
CREATE VIEW x AS SELECT 1
CREATE INDEX x ON invoices (id)
CREATE TRIGGER x AFTER INSERT ON invoices BEGIN SELECT 1; END
CREATE VIRTUAL TABLE x USING fts5(y)
SELECT * INTO x FROM invoices
PRAGMA query_only = OFF
PRAGMA table_info(users)
PRAGMA writable_schema = 1
PRAGMA database_list
ATTACH DATABASE '/tmp/x.db' AS x
ATTACH ':memory:' AS x
DETACH DATABASE main
VACUUM
VACUUM INTO '/tmp/x.db'
ANALYZE
REINDEX
BEGIN
COMMIT
ROLLBACK
SAVEPOINT x
RELEASE x
END
EXPLAIN SELECT 1
EXPLAIN QUERY PLAN SELECT * FROM users
SET x = 1
USE x
SHOW TABLES
DESCRIBE users
COPY invoices TO '/tmp/x'
CALL x()
EXECUTE x
GRANT ALL ON invoices TO x
.tables
.shell id
.read /etc/passwd
SELECT 1; SELECT 2
SELECT 1; DROP TABLE invoices
SELECT 1;DROP TABLE invoices;--
; DELETE FROM invoices
SELECT 1 /* ; */ ; DELETE FROM invoices
SELECT ?
SELECT ?1
SELECT :a
SELECT @a
SELECT $a
SELECT * FROM invoices FOR UPDATE
SELECT * FROM invoices TABLESAMPLE (10)
SELECT * FROM invoices PIVOT (sum(amount) FOR id IN (1))
SELECT * FROM invoices, LATERAL (SELECT card) x
SELECT 1 AS "a""b"
SELECT 1 AS `a``b`
SELECT extract("year FROM 1), load_extension('x') --", id) FROM invoices
SELECT date_trunc("x'), load_extension('x') --", id) FROM invoices
SELECT date_bin(id, amount, "1), load_extension('x') --") FROM invoices
SELECT id COLLATE "x), load_extension('x') --" FROM invoices
SELECT CAST(id AS "x), load_extension('x') --") FROM invoices
SELECT INTERVAL 1 "day), load_extension('x') --"
SELECT id FROM invoices MATCH 'x'
SELECT id FROM invoices WHERE customer MATCH 'x'
SELECT id FROM invoices WHERE customer REGEXP 'x'
SELECT RAISE(ABORT, 'x')
SELECT * EXCEPT (id) FROM invoices, users
SELECT * REPLACE (card AS id) FROM invoices
SELECT COLUMNS('c.*') FROM invoices
FROM users
FROM users SELECT password
TABLE users
SELECT TRANSFORM(id) USING 'sh' FROM invoices
SELECT {fn load_extension('x')}
