-- The events that were written together with what they are about, until a relay has published
-- them, and for a while after that.
CREATE TABLE IF NOT EXISTS outbox (
    seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      text        NOT NULL UNIQUE,       -- the event's id, the same in every repeat
    name    text        NOT NULL,              -- such as trip.requested
    key     text        NOT NULL COLLATE "C",  -- events of one key are published in order
    at      timestamptz NOT NULL,
    data    bytea       NOT NULL,              -- JSON
    sent_at timestamptz                        -- null: not published yet
);
CREATE INDEX IF NOT EXISTS outbox_unsent ON outbox (key, seq) WHERE sent_at IS NULL;
CREATE INDEX IF NOT EXISTS outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;
