    ALTER TABLE store RENAME TO store_1;
    ALTER TABLE session RENAME TO session_1;
    DROP INDEX session_tenant;
    DROP INDEX session_due;
    DROP INDEX session_key;
    DROP TABLE change;
    CREATE TABLE store (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        in_clear INTEGER NOT NULL,
        version INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        feed INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE session (
        provider TEXT NOT NULL,
        tenant TEXT NOT NULL,
        token_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        phase INTEGER NOT NULL,
        lease_claim INTEGER,
        lease_owner INTEGER,
        lease_intent INTEGER,
        lease_from INTEGER,
        lease_until INTEGER,
        lease_holder BLOB,
        lease_boot TEXT,
        made_base INTEGER,
        made_fence INTEGER,
        made_claim INTEGER,
        access_expires_at INTEGER,
        refresh_expires_at INTEGER,
        suspect INTEGER NOT NULL,
        lost INTEGER,
        retry_at INTEGER,
        tries INTEGER NOT NULL,
        due_at INTEGER,
        ended_at INTEGER,
        key_id INTEGER,
        form INTEGER NOT NULL,
        extra BLOB,
        mac BLOB,
        sealed BLOB,
        outbox BLOB,
        PRIMARY KEY (provider, tenant, token_id)
    ) STRICT;
    CREATE TABLE change (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        made_at INTEGER NOT NULL,
        maker BLOB NOT NULL,
        provider TEXT NOT NULL,
        tenant TEXT NOT NULL,
        token_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        phase INTEGER
    ) STRICT;
    CREATE TABLE holder (
        number INTEGER PRIMARY KEY,
        name BLOB NOT NULL,
        boot TEXT NOT NULL,
        owner INTEGER,
        form INTEGER NOT NULL,
        ended INTEGER NOT NULL,
        UNIQUE (name, owner)
    ) STRICT;
    CREATE TABLE pause (
        provider TEXT NOT NULL,
        tenant TEXT NOT NULL,
        PRIMARY KEY (provider, tenant)
    ) STRICT;
    CREATE TABLE login (
        login BLOB PRIMARY KEY,
        claim INTEGER NOT NULL,
        until INTEGER NOT NULL,
        pace INTEGER NOT NULL
    ) STRICT;
    INSERT INTO store
        SELECT one, in_clear, 2 * max(removed, deleted) + 1, iif(deleted > 0, deleted + 1, 0),
            iif(deleted > 0, 2 * deleted + 2, 0), random() FROM store_1;
    INSERT INTO session
        SELECT provider, tenant, token_id, max(fence, generation), epoch, generation, fence,
            iif(phase = 2, coalesce(lease_before, phase), phase),
            iif(lease_owner IS NULL, NULL, fence), lease_owner, lease_intent, lease_from,
            lease_until, lease_holder, lease_boot, cred_base, cred_fence, cred_fence, NULL, NULL,
            suspect, lost, retry_at, tries, due_at, iif(coalesce(lease_before, phase) = 4 OR
                coalesce(lease_before, phase) = 5 AND outbox IS NULL,
                CAST(strftime('%s', 'now') AS INTEGER) * 1000000000, NULL), key_id, 1, NULL, NULL, sealed, outbox
        FROM session_1;
    DROP TABLE store_1;
    DROP TABLE session_1;
    CREATE INDEX session_tenant ON session (tenant, provider, token_id);
    CREATE INDEX session_due ON session (provider, due_at, tenant, token_id)
        WHERE due_at IS NOT NULL;
    CREATE INDEX session_ended ON session (ended_at, provider, tenant, token_id)
        WHERE ended_at IS NOT NULL;
    CREATE INDEX session_key ON session (key_id) WHERE key_id IS NOT NULL;
