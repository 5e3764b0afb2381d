    CREATE TABLE store (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        in_clear INTEGER NOT NULL,
        removed INTEGER NOT NULL,
        deleted INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE session (
        provider TEXT NOT NULL,
        tenant TEXT NOT NULL,
        token_id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        phase INTEGER NOT NULL,
        lease_owner INTEGER,
        lease_intent INTEGER,
        lease_before INTEGER,
        lease_from INTEGER,
        lease_until INTEGER,
        lease_holder BLOB,
        lease_boot TEXT,
        cred_base INTEGER,
        cred_fence INTEGER,
        sealed BLOB,
        outbox BLOB,
        key_id INTEGER,
        suspect INTEGER NOT NULL,
        lost INTEGER,
        retry_at INTEGER,
        tries INTEGER NOT NULL,
        due_at INTEGER,
        PRIMARY KEY (provider, tenant, token_id)
    ) STRICT;
    CREATE TABLE change (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        made_at INTEGER NOT NULL,
        maker BLOB NOT NULL,
        provider TEXT NOT NULL,
        tenant TEXT NOT NULL,
        token_id TEXT NOT NULL,
        epoch INTEGER,
        generation INTEGER
    ) STRICT;
    CREATE INDEX session_tenant ON session (tenant, provider, token_id);
    CREATE INDEX session_due ON session (due_at, provider, tenant, token_id)
        WHERE due_at IS NOT NULL;
    CREATE INDEX session_key ON session (key_id) WHERE key_id IS NOT NULL;
