-- Claiming work: limits of pipelines and of pools, priorities, and turns between pipelines.

ALTER TABLE data_pipelines
    ADD COLUMN max_active INTEGER CONSTRAINT may_run CHECK (max_active > 0),
    ADD COLUMN pool TEXT NOT NULL DEFAULT 'default',
    ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
GRANT SELECT (max_active, pool, priority) ON data_pipelines TO authenticated;

UPDATE work_items AS item SET pipeline_id = execution.pipeline_id
FROM pipeline_executions AS execution
WHERE item.kind = 'execution' AND item.pipeline_id IS NULL AND execution.id = item.subject;
DELETE FROM work_items WHERE kind = 'execution' AND pipeline_id IS NULL;
ALTER TABLE work_items ADD CONSTRAINT belongs_to_a_pipeline CHECK (kind <> 'execution' OR pipeline_id IS NOT NULL);

-- Executions are found by lane, which is their pool and pipeline. The lanes' order is written as an expression of its
-- own, so that no plan reads the other index in its place and passes by all that waits in other lanes. What waits for
-- an earlier run, until 'infinity', is in neither.
DROP INDEX idx_work_items_claimable;
CREATE INDEX idx_work_items_claimable ON work_items (priority DESC, created_at)
    WHERE state = 'queued' AND kind = 'execution' AND run_after < 'infinity';
CREATE INDEX idx_work_items_lanes ON work_items (pool, pipeline_id, (-priority), created_at)
    WHERE state = 'queued' AND kind = 'execution' AND run_after < 'infinity';
CREATE INDEX idx_work_items_others ON work_items (priority DESC, created_at)
    WHERE state = 'queued' AND kind <> 'execution';

-- When each pipeline was last given a turn. No foreign key: a turn is no reason to lock a pipeline's row.
CREATE TABLE pipeline_turns (
    pipeline_id UUID PRIMARY KEY,
    taken_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

-- The lanes whose first item may be claimed, the one whose turn it is first, at most `most` of them.
--
-- The most urgent come first, then the pipelines that run least, then those whose last turn was longest ago, then the
-- oldest. A full pool costs one look; of a pool with room 50 to 100 lanes are looked at, from a random one on, beside
-- those of the 32 most urgent items: the cost does not grow with what waits, and where more lanes wait than that each
-- gets its turn all the same.
CREATE FUNCTION wedsync.open_lanes(most integer, start uuid)
RETURNS TABLE (pool text, pipeline_id uuid, is_pool_limited boolean, is_pipeline_limited boolean)
LANGUAGE plpgsql VOLATILE SET search_path = ''
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE running AS MATERIALIZED (
        SELECT item.pool, item.pipeline_id, count(*) AS items
        FROM public.work_items AS item
        WHERE item.state = 'claimed' AND item.kind = 'execution'
        GROUP BY item.pool, item.pipeline_id
    ), pools AS (
        (
            SELECT item.pool, 1 AS place FROM public.work_items AS item
            WHERE item.state = 'queued' AND item.kind = 'execution' AND item.run_after < 'infinity'
            ORDER BY item.pool LIMIT 1
        )
        UNION ALL
        SELECT following.pool, pools.place + 1
        FROM pools CROSS JOIN LATERAL (
            SELECT item.pool FROM public.work_items AS item
            WHERE item.state = 'queued' AND item.kind = 'execution' AND item.run_after < 'infinity'
                AND item.pool > pools.pool
            ORDER BY item.pool LIMIT 1
        ) AS following
        WHERE pools.place < 100
    ), open_pools AS MATERIALIZED (
        SELECT pools.pool, limited.slots - taken.items AS free
        FROM pools
        LEFT JOIN public.concurrency_pools AS limited ON limited.name = pools.pool
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(running.items), 0) AS items FROM running WHERE running.pool = pools.pool
        ) AS taken
        WHERE limited.slots IS NULL OR limited.slots > taken.items
    ), lanes AS (
        SELECT open_pools.pool, found.pipeline_id
        FROM open_pools CROSS JOIN LATERAL (
            WITH RECURSIVE onward AS (
                (
                    SELECT item.pipeline_id, 1 AS place FROM public.work_items AS item
                    WHERE item.state = 'queued' AND item.kind = 'execution' AND item.run_after < 'infinity'
                        AND item.pool = open_pools.pool AND item.pipeline_id >= start
                    ORDER BY item.pipeline_id LIMIT 1
                )
                UNION ALL
                SELECT following.pipeline_id, onward.place + 1
                FROM onward CROSS JOIN LATERAL (
                    SELECT item.pipeline_id FROM public.work_items AS item
                    WHERE item.state = 'queued' AND item.kind = 'execution' AND item.run_after < 'infinity'
                        AND item.pool = open_pools.pool AND item.pipeline_id > onward.pipeline_id
                    ORDER BY item.pipeline_id LIMIT 1
                ) AS following
                WHERE onward.place < 50
            ), around AS (
                (
                    SELECT item.pipeline_id, 1 AS place FROM public.work_items AS item
                    WHERE item.state = 'queued' AND item.kind = 'execution' AND item.run_after < 'infinity'
                        AND item.pool = open_pools.pool AND item.pipeline_id < start
                    ORDER BY item.pipeline_id LIMIT 1
                )
                UNION ALL
                SELECT following.pipeline_id, around.place + 1
                FROM around CROSS JOIN LATERAL (
                    SELECT item.pipeline_id FROM public.work_items AS item
                    WHERE item.state = 'queued' AND item.kind = 'execution' AND item.run_after < 'infinity'
                        AND item.pool = open_pools.pool
                        AND item.pipeline_id > around.pipeline_id AND item.pipeline_id < start
                    ORDER BY item.pipeline_id LIMIT 1
                ) AS following
                WHERE around.place < 50
            )
            SELECT onward.pipeline_id FROM onward UNION ALL SELECT around.pipeline_id FROM around
        ) AS found
        UNION
        SELECT urgent.pool, urgent.pipeline_id
        FROM (
            SELECT item.pool, item.pipeline_id FROM public.work_items AS item
            WHERE item.state = 'queued' AND item.kind = 'execution' AND item.run_after < 'infinity'
                AND item.run_after <= now()
            ORDER BY item.priority DESC, item.created_at LIMIT 32
        ) AS urgent
        WHERE urgent.pool IN (SELECT open_pools.pool FROM open_pools)
    ), heads AS (
        SELECT
            lanes.pool, lanes.pipeline_id, open_pools.free, pipeline.max_active IS NOT NULL AS is_limited,
            row_number() OVER turns AS turn, row_number() OVER (PARTITION BY lanes.pool ORDER BY head.urgency,
                taken.items, turn.taken_at NULLS FIRST, head.created_at, lanes.pipeline_id) AS turn_in_pool
        FROM lanes
        JOIN open_pools ON open_pools.pool = lanes.pool
        CROSS JOIN LATERAL (
            SELECT -item.priority AS urgency, item.created_at FROM public.work_items AS item
            WHERE item.state = 'queued' AND item.kind = 'execution' AND item.run_after < 'infinity'
                AND item.pool = lanes.pool
                AND item.pipeline_id = lanes.pipeline_id AND item.run_after <= now()
            ORDER BY -item.priority, item.created_at LIMIT 1
        ) AS head
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(running.items), 0) AS items FROM running
            WHERE running.pipeline_id = lanes.pipeline_id
        ) AS taken
        LEFT JOIN public.data_pipelines AS pipeline ON pipeline.id = lanes.pipeline_id
        LEFT JOIN public.pipeline_turns AS turn ON turn.pipeline_id = lanes.pipeline_id
        WHERE pipeline.max_active IS NULL OR pipeline.max_active > taken.items
        WINDOW turns AS (
            ORDER BY head.urgency, taken.items, turn.taken_at NULLS FIRST, head.created_at, lanes.pipeline_id
        )
    )
    SELECT heads.pool, heads.pipeline_id, heads.free IS NOT NULL, heads.is_limited
    FROM heads
    WHERE heads.free IS NULL OR heads.turn_in_pool <= heads.free
    ORDER BY heads.turn
    LIMIT most;
END
$$;

-- The next executions of these lanes, at most `most`, as limits allow: by lane, and since when each waits. Its snapshot
-- is taken when it is called, so after the locks that its caller took: it counts every slot that anybody else has.
CREATE FUNCTION wedsync.next_in_lanes(lane_pools text[], lane_pipelines uuid[], most integer)
RETURNS TABLE (pool text, pipeline_id uuid, waits_since timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = ''
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH running AS MATERIALIZED (
        SELECT item.pool, item.pipeline_id, count(*) AS items
        FROM public.work_items AS item
        WHERE item.state = 'claimed' AND item.kind = 'execution'
        GROUP BY item.pool, item.pipeline_id
    ), lanes AS MATERIALIZED (
        SELECT
            lane.pool, lane.pipeline_id, limited.slots, pipeline.max_active, turn.taken_at,
            (SELECT coalesce(sum(items), 0) FROM running WHERE running.pool = lane.pool) AS in_pool,
            (SELECT coalesce(sum(items), 0) FROM running WHERE running.pipeline_id = lane.pipeline_id) AS in_pipeline
        FROM unnest(lane_pools, lane_pipelines) AS lane (pool, pipeline_id)
        LEFT JOIN public.concurrency_pools AS limited ON limited.name = lane.pool
        LEFT JOIN public.data_pipelines AS pipeline ON pipeline.id = lane.pipeline_id
        LEFT JOIN public.pipeline_turns AS turn ON turn.pipeline_id = lane.pipeline_id
    ), waiting AS (
        SELECT lanes.*, item.urgency, item.created_at, item.run_after, row_number() OVER (
            PARTITION BY lanes.pipeline_id ORDER BY item.urgency, item.created_at
        ) AS place
        FROM lanes CROSS JOIN LATERAL (
            SELECT -queued.priority AS urgency, queued.created_at, queued.run_after FROM public.work_items AS queued
            WHERE queued.state = 'queued' AND queued.kind = 'execution' AND queued.run_after < 'infinity'
                AND queued.pool = lanes.pool
                AND queued.pipeline_id = lanes.pipeline_id AND queued.run_after <= now()
            ORDER BY -queued.priority, queued.created_at LIMIT most
        ) AS item
    ), allowed AS (
        SELECT waiting.*, row_number() OVER (
            PARTITION BY waiting.pool
            ORDER BY waiting.urgency, waiting.in_pipeline + waiting.place, waiting.taken_at NULLS FIRST,
                waiting.created_at
        ) AS place_in_pool
        FROM waiting
        WHERE waiting.max_active IS NULL OR waiting.in_pipeline + waiting.place <= waiting.max_active
    )
    SELECT allowed.pool, allowed.pipeline_id, allowed.run_after FROM allowed
    WHERE allowed.slots IS NULL OR allowed.in_pool + allowed.place_in_pool <= allowed.slots
    ORDER BY allowed.urgency, allowed.in_pipeline + allowed.place, allowed.taken_at NULLS FIRST, allowed.created_at
    LIMIT most;
END
$$;

-- Since when executions wait that only lack a supervisor, at most `most` of them.
CREATE FUNCTION wedsync.waiting_executions(most integer) RETURNS SETOF timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = '' SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    pools text[];
    pipelines uuid[];
BEGIN
    SELECT array_agg(lane.pool), array_agg(lane.pipeline_id) INTO pools, pipelines
    FROM wedsync.open_lanes(most, gen_random_uuid()) AS lane;
    IF pools IS NOT NULL THEN
        RETURN QUERY SELECT item.waits_since FROM wedsync.next_in_lanes(pools, pipelines, most) AS item;
    END IF;
END
$$;

-- Claims executions and other work for `taker`, for so many seconds.
--
-- A slot of a pool, or of a pipeline that is limited, is an item in the state 'claimed': a crash leaks none, since what
-- lapsed is put back. Who claims holds a lock on each limit that it counts against until it commits; who finds one
-- held leaves those lanes for the next time, and waits for nobody.
CREATE FUNCTION wedsync.claim_work(taker text, executions integer, others integer, seconds double precision)
RETURNS SETOF public.work_items
LANGUAGE plpgsql VOLATILE SET search_path = '' SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    lane record;
    pools text[] := '{}';
    pipelines uuid[] := '{}';
BEGIN
    IF executions > 0 THEN
        FOR lane IN SELECT * FROM wedsync.open_lanes(executions, gen_random_uuid()) LOOP
            CONTINUE WHEN lane.is_pool_limited
                AND NOT pg_try_advisory_xact_lock(hashtextextended('wedsync.pool ' || lane.pool, 0));
            CONTINUE WHEN lane.is_pipeline_limited
                AND NOT pg_try_advisory_xact_lock(hashtextextended('wedsync.pipeline ' || lane.pipeline_id, 0));
            pools := pools || lane.pool;
            pipelines := pipelines || lane.pipeline_id;
        END LOOP;
        IF cardinality(pools) > 0 THEN
            RETURN QUERY
            WITH shares AS MATERIALIZED (
                SELECT item.pool, item.pipeline_id, count(*) AS items
                FROM wedsync.next_in_lanes(pools, pipelines, executions) AS item
                GROUP BY item.pool, item.pipeline_id
            ), taken AS (
                UPDATE public.work_items AS item
                SET state = 'claimed', holder = taker, generation = item.generation + 1, attempts = item.attempts + 1,
                    lease_expires_at = now() + make_interval(secs => seconds)
                WHERE item.id = ANY (ARRAY(
                    SELECT picked.id
                    FROM shares CROSS JOIN LATERAL (
                        SELECT queued.id FROM public.work_items AS queued
                        WHERE queued.state = 'queued' AND queued.kind = 'execution' AND queued.run_after < 'infinity'
                            AND queued.pool = shares.pool
                            AND queued.pipeline_id = shares.pipeline_id AND queued.run_after <= now()
                        ORDER BY -queued.priority, queued.created_at LIMIT shares.items
                        FOR UPDATE SKIP LOCKED
                    ) AS picked
                ))
                RETURNING item.*
            ), begun AS (
                INSERT INTO public.pipeline_turns (pipeline_id, taken_at)
                SELECT DISTINCT taken.pipeline_id, clock_timestamp() FROM taken
                WHERE NOT EXISTS (SELECT FROM public.pipeline_turns AS turn WHERE turn.pipeline_id = taken.pipeline_id)
                ON CONFLICT DO NOTHING
            ), turned AS (
                UPDATE public.pipeline_turns AS turn SET taken_at = clock_timestamp()
                WHERE turn.pipeline_id IN (
                    SELECT known.pipeline_id FROM public.pipeline_turns AS known
                    WHERE known.pipeline_id IN (SELECT taken.pipeline_id FROM taken)
                    FOR UPDATE SKIP LOCKED
                )
            )
            SELECT * FROM taken;
        END IF;
    END IF;
    IF others > 0 THEN
        RETURN QUERY
        UPDATE public.work_items AS item
        SET state = 'claimed', holder = taker, generation = item.generation + 1, attempts = item.attempts + 1,
            lease_expires_at = now() + make_interval(secs => seconds)
        WHERE item.id = ANY (ARRAY(
            SELECT queued.id FROM public.work_items AS queued
            WHERE queued.state = 'queued' AND queued.kind <> 'execution' AND queued.run_after <= now()
            ORDER BY queued.priority DESC, queued.created_at
            LIMIT others
            FOR UPDATE SKIP LOCKED
        ))
        RETURNING item.*;
    END IF;
END
$$;

-- When an execution that was held at this generation may be claimed again. Whose supervisors die one after the other and
-- finish no step rests between them: not at first, then for half a second, doubled each time, for 30 s at most. So what
-- kills them, if it is the execution itself, leaves room for others; if it is not, there is time to get better.
CREATE FUNCTION wedsync.rested(execution uuid, held_at bigint, since timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT CASE WHEN fruitless > 2 THEN now() + make_interval(secs => least(30, 0.25 * 2 ^ (fruitless - 2))) ELSE since END
    FROM (
        SELECT held_at - coalesce(max(step.generation), 0) AS fruitless
        FROM public.step_executions AS step
        WHERE step.pipeline_execution_id = execution AND step.state = 'completed'
    ) AS lives
$$;

-- How many executions run, by pool and pipeline: the counts alone, for everyone, to say what a queued one waits for.
CREATE FUNCTION wedsync.taken_slots() RETURNS TABLE (pool text, pipeline_id uuid, items bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
AS $$
    SELECT item.pool, item.pipeline_id, count(*) FROM public.work_items AS item
    WHERE item.state = 'claimed' AND item.kind = 'execution'
    GROUP BY item.pool, item.pipeline_id
$$;
CREATE POLICY "The owner can count slots" ON work_items FOR SELECT TO CURRENT_USER USING (state = 'claimed');

CALL wedsync.protect('pipeline_turns');
CALL wedsync.open_to_people('pipeline_turns', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('pipeline_turns', 'turns');
CALL wedsync.let_analysts_read('pipeline_turns', 'turns');
CALL wedsync.let_runtime('pipeline_turns', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');

REVOKE ALL ON FUNCTION
    wedsync.open_lanes, wedsync.next_in_lanes, wedsync.waiting_executions, wedsync.claim_work, wedsync.rested,
    wedsync.taken_slots
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    wedsync.open_lanes, wedsync.next_in_lanes, wedsync.waiting_executions, wedsync.claim_work, wedsync.rested
TO wedsync_runtime;
GRANT EXECUTE ON FUNCTION wedsync.taken_slots TO authenticated, wedsync_runtime;
