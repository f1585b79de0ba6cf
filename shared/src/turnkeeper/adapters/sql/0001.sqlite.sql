-- Keys are bytes, since text would be put in an order of its own and cannot hold every character.
CREATE TABLE turnkeeper_items (
    pk blob NOT NULL,
    sk blob NOT NULL,
    item text NOT NULL,
    expires_at integer,
    user_key blob,
    created_key blob,
    tenant_key blob,
    status_key blob,
    due_shard blob,
    due_at blob,
    PRIMARY KEY (pk, sk)
);

CREATE INDEX turnkeeper_items_by_user ON turnkeeper_items (user_key, created_key, pk, sk)
    WHERE user_key IS NOT NULL AND created_key IS NOT NULL;
CREATE INDEX turnkeeper_items_by_tenant ON turnkeeper_items (tenant_key, created_key, pk, sk)
    WHERE tenant_key IS NOT NULL AND created_key IS NOT NULL;
CREATE INDEX turnkeeper_items_by_status ON turnkeeper_items (status_key, created_key, pk, sk)
    WHERE status_key IS NOT NULL AND created_key IS NOT NULL;
CREATE INDEX turnkeeper_items_due ON turnkeeper_items (due_shard, due_at, pk, sk)
    WHERE due_shard IS NOT NULL AND due_at IS NOT NULL;
CREATE INDEX turnkeeper_items_expiring ON turnkeeper_items (expires_at) WHERE expires_at IS NOT NULL;

-- What was written, in order, for those who follow; by the token a write is known again whose answer was lost.
CREATE TABLE turnkeeper_feed (
    position integer PRIMARY KEY AUTOINCREMENT,
    transaction_number integer NOT NULL,
    at real NOT NULL,
    token blob NOT NULL UNIQUE,
    changes text NOT NULL
);
CREATE INDEX turnkeeper_feed_order ON turnkeeper_feed (transaction_number, position);
CREATE INDEX turnkeeper_feed_at ON turnkeeper_feed (at);

CREATE TABLE turnkeeper_followers (
    name text PRIMARY KEY,
    transaction_number integer NOT NULL,
    position integer NOT NULL,
    at real NOT NULL
);

CREATE TABLE turnkeeper_messages (
    id integer PRIMARY KEY AUTOINCREMENT,
    queue text NOT NULL,
    group_id blob NOT NULL,
    body blob NOT NULL,
    turn integer NOT NULL,
    sent_at real NOT NULL,
    visible_at real NOT NULL,
    receives integer NOT NULL DEFAULT 0,
    receipt blob,
    error_code text,
    detail blob
);
CREATE INDEX turnkeeper_messages_next ON turnkeeper_messages (queue, turn, id);
CREATE INDEX turnkeeper_messages_group ON turnkeeper_messages (queue, group_id, turn);
CREATE INDEX turnkeeper_messages_visible ON turnkeeper_messages (queue, visible_at);

CREATE TABLE turnkeeper_blobs (
    key blob PRIMARY KEY,
    size integer NOT NULL,
    -- Without it, the content is outside, under the same key.
    data blob
);
