-- Keys are bytes, since text would be put in an order of its own and cannot hold every character.
CREATE TABLE turnkeeper_items (
    pk bytea NOT NULL,
    sk bytea NOT NULL,
    item text NOT NULL,
    expires_at bigint,
    user_key bytea,
    created_key bytea,
    tenant_key bytea,
    status_key bytea,
    due_shard bytea,
    due_at bytea,
    PRIMARY KEY (pk, sk)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

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
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_number bigint NOT NULL,
    at double precision NOT NULL,
    token bytea NOT NULL UNIQUE,
    changes text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX turnkeeper_feed_order ON turnkeeper_feed (transaction_number, position);
CREATE INDEX turnkeeper_feed_at ON turnkeeper_feed (at);

CREATE TABLE turnkeeper_followers (
    name text PRIMARY KEY,
    transaction_number bigint NOT NULL,
    position bigint NOT NULL,
    at double precision NOT NULL
);

CREATE TABLE turnkeeper_messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    group_id bytea NOT NULL,
    body bytea NOT NULL,
    turn bigint NOT NULL,
    sent_at double precision NOT NULL,
    visible_at double precision NOT NULL,
    receives bigint NOT NULL DEFAULT 0,
    receipt bytea,
    error_code text,
    detail bytea
) WITH (autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX turnkeeper_messages_next ON turnkeeper_messages (queue, turn, id);
CREATE INDEX turnkeeper_messages_group ON turnkeeper_messages (queue, group_id, turn);
CREATE INDEX turnkeeper_messages_visible ON turnkeeper_messages (queue, visible_at);

CREATE TABLE turnkeeper_blobs (
    key bytea PRIMARY KEY,
    size bigint NOT NULL,
    -- Without it, the content is outside, under the same key.
    data bytea
);
