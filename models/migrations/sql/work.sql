-- Work to be claimed, and leases.
CREATE TABLE work_items (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    kind TEXT NOT NULL,
    subject UUID,
    payload JSONB NOT NULL DEFAULT '{}',
    pool TEXT NOT NULL DEFAULT 'default',
    priority INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'queued'
        CONSTRAINT state_is_known CHECK (state IN ('queued', 'claimed', 'done', 'failed', 'cancelled')),
    run_after TIMESTAMPTZ NOT NULL DEFAULT now(),
    attempts INTEGER NOT NULL DEFAULT 0,
    holder TEXT,
    lease_expires_at TIMESTAMPTZ,
    generation INTEGER NOT NULL DEFAULT 0,
    result JSONB,
    error JSONB,
    requested_by UUID,
    requested_role TEXT DEFAULT (auth.jwt() ->> 'role')
        CONSTRAINT requested_role_is_known
        CHECK (requested_role IN ('data_engineer', 'data_analyst', 'system_admin')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    finished_at TIMESTAMPTZ
) WITH (fillfactor = 70);

CREATE INDEX idx_work_items_claimable ON work_items (priority DESC, created_at) WHERE state = 'queued';
CREATE INDEX idx_work_items_lease ON work_items (lease_expires_at) WHERE state = 'claimed';
CREATE INDEX idx_work_items_subject ON work_items (subject);

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    generation BIGINT NOT NULL DEFAULT 0,
    acquired_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);
