--! Previous: sha1:ccb84a58b23fae1920b593084c6868b24d744da6
--! Hash: sha1:4965923bfa8cd08db5dcda507fe8a73546d38f2c
--! Message: jobs

-- What keeps jobs going when workers do not: each worker holds an advisory lock for as long as it lives, and whatever a dead
-- one left locked is freed for the others. The library does so after four hours, because it cannot tell a dead worker from
-- a slow one; a session's lock can, since the server lets it go with the session. And what failed for good can be looked at.
--
-- The functions name the library's views in bodies that are looked up when they are called, so that they never stand in the
-- way of its own migrations; a view on them would.

create function app.sweep_lock() returns bigint language sql immutable return 7401000004;
comment on function app.sweep_lock() is 'Advisory lock held by the sweep that is running.';
create function app.worker_lock(worker_id text) returns bigint
  language sql immutable set search_path = '' as $$
  select hashtextextended('incentives.worker:' || worker_id, 0)
$$;
comment on function app.worker_lock(text) is 'Advisory lock held by this worker for as long as it lives. It takes no job without it.';

-- Only jobs of the tasks it is given: the same queue may serve workers of somebody else, which hold no such lock and would
-- all be taken for dead. The locks taken here end with the transaction; of two sweeps only one finds a worker dead. Not to
-- be called in a session that holds a worker's lock: to that session the lock looks free.
create function app.unlock_dead_workers(tasks text[]) returns text[]
  language plpgsql volatile set search_path = '' as $$
declare
  dead text[];
begin
  with lockers as materialized (
    select distinct locked_by
    from graphile_worker.jobs
    where locked_by is not null
    and task_identifier = any (tasks)
  )
  select array_agg(locked_by) into dead
  from lockers
  where pg_try_advisory_xact_lock(app.worker_lock(locked_by));
  if dead is null then
    return '{}';
  end if;
  perform graphile_worker.force_unlock_workers(dead);
  return dead;
end
$$;
comment on function app.unlock_dead_workers(text[]) is
  'Frees what dead workers left locked among jobs of these tasks, for others to do at once. Returns their ids.';

create function app.sweep(tasks text[], thorough boolean) returns text[]
  language plpgsql volatile set search_path = '' as $$
declare
  dead text[];
begin
  if not pg_try_advisory_xact_lock(app.sweep_lock()) then
    return '{}';
  end if;
  dead := app.unlock_dead_workers(tasks);

  -- The library's pauses grow to hours. They are for what fails by itself, not for what lost its connection: that may go on
  -- now. The attempt stays counted, so that a job that breaks its own connection each time is parked in the end.
  perform graphile_worker.reschedule_jobs(
    array(
      select id
      from graphile_worker.jobs
      where locked_at is null
      and run_at > now()
      and attempts < max_attempts
      and task_identifier = any (tasks)
      and last_error like 'connection lost%'
    ),
    run_at => now()
  );
  -- Writers rely on a bell job that waits, so it never pauses and is never parked.
  perform graphile_worker.reschedule_jobs(
    array(
      select id
      from graphile_worker.jobs
      where locked_at is null
      and task_identifier = 'evaluate_incentives'
      and (attempts > 0 and run_at > now() or attempts >= max_attempts)
    ),
    run_at => now(),
    attempts => 0
  );

  -- Who is awake may be a process that was stopped in its sleep: nobody rings then. When nobody is awake, due rows wait for
  -- an evaluator that is not there, most likely, and looking now and then is enough.
  if exists (select from app.user_incentives where evaluation_due)
    and (thorough or not pg_try_advisory_xact_lock_shared(app.awake_lock()))
    and not app.bell_is_waiting()
  then
    perform app.ring_bell();
  end if;
  return dead;
end
$$;
comment on function app.sweep(text[], boolean) is
  'Run by each worker every few seconds: frees what the dead left, hurries what lost its connection, rings for what is due. Returns the ids of dead workers.';

-- The library keeps no time of the failure, but what it adds to run_at then. A job whose worker was killed each time has
-- nobody who could have said why.
create function app.read_parked_jobs()
  returns table (
    id bigint, task text, payload jsonb, attempts integer, max_attempts integer, last_error text, since timestamptz
  )
  language sql stable set search_path = '' as $$
  select job.id, job.task_identifier, private.payload::jsonb, job.attempts, job.max_attempts,
    coalesce(job.last_error, 'its worker was killed each time'),
    least(
      now(),
      greatest(job.updated_at, job.run_at - exp(least(job.attempts, 10)) * interval '1 second')
    )
  from graphile_worker.jobs as job
  join graphile_worker._private_jobs as private on private.id = job.id
  where job.attempts >= job.max_attempts
  and job.locked_at is null
$$;
comment on function app.read_parked_jobs() is 'The rows of app.parked_jobs.';

create view app.parked_jobs as
select id, task, payload, attempts, max_attempts, last_error, since
from app.read_parked_jobs();
comment on view app.parked_jobs is
  'Jobs that failed for good, with the reason: ids and error classes only. They stay until somebody retries or deletes them: npx incentives jobs.';
