--! Previous: sha1:cf78f5295c06b28dbcb96fe16917f7a6b881b6ed
--! Hash: sha1:722ace3dbc539fabfbacdcdb2892da2d21049595
--! Message: bell

-- Stages 2 and 3, trigger and job: the bell. A due row must be judged soon, but a writer must pay next to nothing for it:
-- every add_job sends a NOTIFY, and transactions that notify commit one behind another. So the job carries no row, it only
-- wakes the worker, and almost no writer adds one:
--
--   writer, its row written, so that its transaction has its id
--     1 somebody is awake (the lock AWAKE is taken): they look again after me. Done.
--     2 a bell job stands in the queue, not begun: whoever takes it looks again after me. Done.
--     3 add a bell job.
--   worker, one run of the job
--     1 take AWAKE
--     2 judge what is due until nothing is
--     3 let AWAKE go, then take a transaction id of its own, x
--     4 wait until every transaction before x is over, judge what is due until nothing is, and end
--
-- Why no row is left: a writer that added no job had its id before AWAKE was let go (1), or before the job it saw was begun
-- (2); either way before that run took its x, and so it is over, and its row seen, at the run's last look. Whoever adds
-- a job relies on nobody. In particular no writer relies on another writer, who may yet roll back. x must be an id that was
-- given out: pg_snapshot_xmax() is one past the last *finished* transaction, and open ones may lie beyond it.
--
-- RING is for thrift only: of many writers that find nobody awake at the same moment, one adds the job and the others
-- give it some milliseconds to be seen. Nothing is lost without it.

create function app.awake_lock() returns bigint language sql immutable return 7401000001;
comment on function app.awake_lock() is 'Advisory lock held by a worker that will look for due rows again.';
create function app.ring_lock() returns bigint language sql immutable return 7401000002;
comment on function app.ring_lock() is 'Advisory lock held by a transaction that is adding a bell job.';

create function app.bell_is_waiting() returns boolean
  language sql volatile set search_path = '' as $$
  select exists (
    select from graphile_worker.jobs
    where task_identifier = 'evaluate_incentives'
    and locked_at is null
    and attempts < max_attempts
    -- One that was put off, by a failure or by hand, is no reason to be silent until then.
    and run_at < clock_timestamp() + interval '2 seconds'
  )
$$;
comment on function app.bell_is_waiting() is
  'A bell job stands in the queue, to be run now or in a moment, that no worker has begun. True only in read committed: an older snapshot may show a job that is gone.';

create function app.ring_bell(after interval default '0') returns void
  language sql volatile set search_path = '' as $$
  select graphile_worker.add_job('evaluate_incentives', '{}'::json, run_at => now() + after)
$$;
comment on function app.ring_bell(interval) is 'Adds a bell job, to be run now or after a while.';

create function app.tg_user_incentives__ring_bell() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  let_go boolean;
  i_ring boolean := false;
begin
  -- Nearly every writer ends here, so here are nothing but calls: no query, no transition table. After the verdicts
  -- themselves (app.apply_verdicts) nothing is due that was not due before.
  if current_setting('incentives.applying_verdicts', true) = 'on' then
    return null;
  end if;
  if not pg_try_advisory_lock_shared(app.awake_lock()) then
    return null;
  end if;
  -- At once, because the lock is only looked at. Held to the end of this transaction, it would keep the worker from being
  -- awake for as long as this transaction stays open.
  let_go := pg_advisory_unlock_shared(app.awake_lock());

  -- A stricter isolation level looks at an old snapshot, so there the look would be worth nothing.
  if current_setting('transaction_isolation') = 'read committed' then
    for look in 1..50 loop
      if app.bell_is_waiting() then
        return null;
      end if;
      -- Mine at the second look: whoever had it before may have just been done.
      exit when i_ring;
      i_ring := pg_try_advisory_xact_lock(app.ring_lock());
      if not i_ring then
        perform pg_sleep(0.002);
      end if;
    end loop;
  end if;

  -- An update of data that changed nothing made nothing due.
  if exists (select from app.user_incentives where evaluation_due) then
    perform app.ring_bell();
  end if;
  return null;
end
$$;
comment on function app.tg_user_incentives__ring_bell() is 'Wakes the worker, unless somebody is sure to look after this transaction.';

create trigger _500_ring_bell after insert or update of data, evaluation_due on app.user_incentives
  for each statement execute function app.tg_user_incentives__ring_bell();
