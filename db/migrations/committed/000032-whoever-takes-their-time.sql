--! Previous: sha1:10fa9f28f3e5a14c7ab783954b86aa39cbea3cd1
--! Hash: sha1:e3c6e5267d0fff279e5ec55675f2aa6f2532d66a
--! Message: whoever takes their time

-- Stages 3, 7 and 8: who takes their time takes nobody else's. A listener that does not answer, of which thousands of events
-- are due, had one of the places for jobs for hours; now it is left after some seconds, and what it was not told of is put back.
-- A row that could not be judged among others has its turn in a queue of its own, one at a time (src/evaluation/batch.ts).

drop function app.settle_deliveries(text, bigint[], bigint[]);
create function app.settle_deliveries(of_listener text, page bigint[], failed bigint[], untold bigint[] default '{}') returns void
  language plpgsql volatile set search_path = '' as $$
begin
  delete from app.undelivered_events where listener = of_listener and id = any (page);
  insert into app.undelivered_events (listener, event_ids)
  select of_listener, untold[first : first + 2999]
  from generate_series(1, cardinality(untold), 3000) as first;
  if failed <> '{}' then
    perform graphile_worker.add_job(
      'deliver_incentive_completed',
      (select json_agg(json_build_object('listener', of_listener, 'event_id', id::text)) from unnest(failed) as id),
      queue_name => 'deliver_to_' || of_listener,
      -- As the library does after a first attempt; 25 in all.
      run_at => now() + interval '3 seconds',
      max_attempts => 24
    );
  end if;
end
$$;
comment on function app.settle_deliveries(text, bigint[], bigint[], bigint[]) is
  'A page was delivered, except the events on which the listener failed, which get a job of their own, and those that there was no time for, which are put back: whoever calls this looks again, or rings.';

-- Returns null when it leaves it to another that is at it.
create or replace function app.sweep(tasks text[], thorough boolean) returns text[]
  language plpgsql volatile set search_path = '' as $$
declare
  dead text[];
begin
  if not pg_try_advisory_xact_lock(app.sweep_lock()) then
    return null;
  end if;
  dead := app.unlock_dead_workers(tasks);
  -- A queue is freed with the job that has it. When a worker was taken for dead and was not, its job was done twice: whoever was
  -- the second to end found no job any more, and left the queue as it was, for hours.
  update graphile_worker._private_job_queues as queue
  set locked_at = null, locked_by = null
  where (queue_name like 'deliver\_to\_%' or queue_name = 'evaluate_incentive')
  and locked_at < now() - interval '1 second'
  and not exists (
    select from graphile_worker._private_jobs where job_queue_id = queue.id and locked_at is not null
  );

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
  -- Writers rely on a bell job that waits, and completions on a delivery job, so these never pause and are never parked.
  perform graphile_worker.reschedule_jobs(
    array(
      select id
      from graphile_worker.jobs
      where locked_at is null
      and task_identifier in ('evaluate_incentives', 'deliver_events')
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

  perform app.ring_for_deliveries(array(
    select distinct listener
    from app.undelivered_events
    where not exists (
      select from graphile_worker.jobs
      where task_identifier = 'deliver_events'
      and queue_name = 'deliver_to_' || listener
    )
  ));
  return dead;
end
$$;
comment on function app.sweep(text[], boolean) is
  'Run by each worker every few seconds: frees what the dead left, hurries what lost its connection, rings for what is due. Returns the ids of dead workers; null when another sweep is at it.';
