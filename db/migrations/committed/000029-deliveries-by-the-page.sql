--! Previous: sha1:7a6563f1ebb61abaea7d2147bfe4a76ebdc354e9
--! Hash: sha1:b01f35a400be2d6c6bb99b693fd7ac56d5b616ff
--! Message: deliveries by the page

-- Stages 7 and 8, announce and listeners: a job per batch and listener, which carried the ids of its events, cost a batch of a
-- few rows a third of all that it costs, and delivering a job the same again. Now what is to be delivered stands in a
-- table, and a job says only that there may be something, as the bell does for due rows (000004): a completion that sees such a
-- job waiting, not begun, relies on it, because whoever takes it waits for all transactions that were open then and looks
-- once more. Only events that a listener failed on get a job that carries them (deliver_incentive_completed).

create table app.undelivered_events (
  listener text not null,
  id bigint generated always as identity,
  event_ids bigint[] not null,
  primary key (listener, id)
);
comment on table app.undelivered_events is
  'Events that an active listener has yet to be told of, up to 3,000 a row. Nearly always empty or nearly so: a row goes when it was told of all of them.';
alter table app.undelivered_events enable row level security;

create function app.ring_for_deliveries(listeners text[], after interval default '0') returns void
  language plpgsql volatile set search_path = '' as $$
declare
  unheard text[];
begin
  unheard := array(
    select listener
    from unnest(listeners) as listener
    -- A stricter isolation level looks at an old snapshot, so there the look would be worth nothing.
    where current_setting('transaction_isolation') <> 'read committed'
    or not exists (
      select from graphile_worker.jobs
      where task_identifier = 'deliver_events'
      and queue_name = 'deliver_to_' || listener
      and locked_at is null
      and attempts < max_attempts
      -- One that was put off, by a failure or by hand, is no reason to be silent until then.
      and run_at < clock_timestamp() + interval '2 seconds'
    )
  );
  if unheard <> '{}' then
    perform graphile_worker.add_jobs(array(
      select row(
        'deliver_events',
        json_build_object('listener', listener),
        -- One job of a listener at a time: a slow one never takes all the slots that judging needs too.
        'deliver_to_' || listener,
        now() + after, null, null, null, null
      )::graphile_worker.job_spec
      from unnest(unheard) as listener
    ));
  end if;
end
$$;
comment on function app.ring_for_deliveries(text[], interval) is
  'Adds a delivery job, to be run now or after a while, for each of these listeners that has none waiting.';

create or replace function app.tg_incentive_events__announce() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  first_id bigint;
  last_id bigint;
  listeners text[];
begin
  select min(id), max(id) into first_id, last_id from recorded;
  if first_id is null then
    return null;
  end if;

  -- A wake-up, never the truth: whoever hears it reads the table. Its size does not grow with the batch.
  perform pg_notify('incentive_completed', json_build_object('first', first_id, 'last', last_id)::text);

  listeners := array(select name from app.incentive_listeners where is_active);
  if listeners <> '{}' then
    insert into app.undelivered_events (listener, event_ids)
    select listener, event_ids
    from unnest(listeners) as listener
    cross join (
      select array_agg(id) as event_ids
      from (select id, (row_number() over (order by id) - 1) / 3000 as part from recorded) as event
      group by part
    ) as event;
    perform app.ring_for_deliveries(listeners);
  end if;
  return null;
end
$$;
comment on function app.tg_incentive_events__announce() is
  'NOTIFY incentive_completed, and for each active listener the events it is to be told of, and a delivery job unless one is waiting.';

-- In pages, so that a process that was away for long, or is killed at it, has no more in hand than it can do in a moment.
create function app.read_undelivered(of_listener text) returns json
  language plpgsql stable set search_path = '' as $$
declare
  page bigint[];
  page_events bigint[];
begin
  page := array(
    select id
    from (
      select id, sum(cardinality(event_ids)) over (order by id) - cardinality(event_ids) as events_before
      from (
        select id, event_ids from app.undelivered_events where listener = of_listener order by id limit 1000
      ) as undelivered
    ) as undelivered
    where events_before < 3000
  );
  if page = '{}' then
    return null;
  end if;
  page_events := array(
    select unnest(event_ids) from app.undelivered_events where listener = of_listener and id = any (page)
  );
  return json_build_object(
    'page', page::text[],
    'event_ids', page_events::text[],
    'completions', app.read_completions(page_events)
  );
end
$$;
comment on function app.read_undelivered(text) is
  'The next page, up to 6,000 events, of what a listener is to be told: the rows of app.undelivered_events, the events, and what is to be told of them (app.read_completions); null when there is nothing to tell.';

create function app.settle_deliveries(of_listener text, page bigint[], failed bigint[]) returns void
  language plpgsql volatile set search_path = '' as $$
begin
  delete from app.undelivered_events where listener = of_listener and id = any (page);
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
comment on function app.settle_deliveries(text, bigint[], bigint[]) is
  'A page was delivered, except the events on which the listener failed; these get a job of their own.';

create or replace function app.sweep(tasks text[], thorough boolean) returns text[]
  language plpgsql volatile set search_path = '' as $$
declare
  dead text[];
begin
  if not pg_try_advisory_xact_lock(app.sweep_lock()) then
    return '{}';
  end if;
  dead := app.unlock_dead_workers(tasks);
  -- A queue is freed with the job that has it. When a worker was taken for dead and was not, its job was done twice: whoever was
  -- the second to end found no job any more, and left the queue as it was, for hours.
  update graphile_worker._private_job_queues as queue
  set locked_at = null, locked_by = null
  where queue_name like 'deliver\_to\_%'
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

create or replace function app.own_tasks() returns text[] language sql immutable as $$
  select array[
    'evaluate_incentives', 'evaluate_incentive', 'evaluate_again', 'deliver_events', 'deliver_incentive_completed', 'refresh_cache',
    'prune_idempotency_keys'
  ]
$$;
