--! Previous: sha1:3337634cd692460146758fd3b8b796d00b2e239e
--! Hash: sha1:c6726c822c58254a8a2dd13322735ef168a03b55
--! Message: faster judging

-- Stages 2 to 5 at less cost for the writer and for who judges beside it.

-- A look at the bell costs nearly every writer only this, so it changes neither the user nor the search path for it, which cost as
-- much as the lock. The rest is done by a function that does.
create function app.ring_bell_once() returns void
  language plpgsql volatile security definer set search_path = '' as $$
declare
  let_go boolean;
  i_ring boolean := false;
begin
  -- At once, because the lock is only looked at. Held to the end of this transaction, it would keep the worker from being
  -- awake for as long as this transaction stays open.
  let_go := pg_advisory_unlock_shared(app.awake_lock());

  -- A stricter isolation level looks at an old snapshot, so there the look would be worth nothing.
  if current_setting('transaction_isolation') = 'read committed' then
    for look in 1..50 loop
      if app.bell_is_waiting() then
        return;
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
end
$$;
comment on function app.ring_bell_once() is
  'Lets go of the shared lock AWAKE that the caller has just taken, and adds a bell job unless one is waiting. Of use to the trigger only.';
-- Whoever may write to the table runs its trigger.
grant execute on function app.ring_bell_once() to public;

create or replace function app.tg_user_incentives__ring_bell() returns trigger
  language plpgsql volatile security invoker as $$
begin
  -- After the verdicts themselves (app.apply_verdicts) nothing is due that was not due before.
  if current_setting('incentives.applying_verdicts', true) = 'on' then
    return null;
  end if;
  -- AWAKE (app.awake_lock), written out because whoever writes need not have the right to that function.
  if pg_try_advisory_lock_shared(7401000001) then
    perform app.ring_bell_once();
  end if;
  return null;
end
$$;
alter function app.tg_user_incentives__ring_bell() reset all;

-- Waiting for due rows and claiming them is one question now: whoever waits has them the moment they are there.
--
-- A row that was judged leaves its entry in the index of due rows, until a vacuum or the end of all older transactions. While
-- members write, a look from the beginning passes thousands of those and costs as much as judging: so the looks go on where
-- the last one ended, as long as there is something above.
drop function app.wait_until_due(interval);
create function app.claim_due_rows(judgeable integer[], above bigint, at_most integer, wait interval)
  returns table (id bigint, incentive_id integer, data text)
  language plpgsql volatile set search_path = ''
  -- Always by the index of due rows: a plan that was made and kept while most rows were due would read all that were judged.
  set enable_seqscan = off
as $$
declare
  bedtime constant timestamptz := clock_timestamp() + wait;
  start bigint;
begin
  for look in 1..2147483647 loop
    -- Now and then below too: a row is given its id before its writer commits.
    start := case when look % 10 = 0 then 0 else above end;
    return query
      select ui.id, ui.incentive_id, ui.data::text
      from app.user_incentives as ui
      where ui.evaluation_due
      and ui.id > start
      and ui.incentive_id = any (judgeable)
      order by ui.id
      limit at_most
      for update skip locked;
    exit when found or clock_timestamp() >= bedtime;
    -- Rounded up to a millisecond; one that says a whole millisecond sleeps two.
    perform pg_sleep(0.0002);
  end loop;
end
$$;
comment on function app.claim_due_rows(integer[], bigint, integer, interval) is
  'Locks due rows of these incentives and returns them by their ids, those above an id first; when there are none it looks again every millisecond for so long. A look from here costs a twentieth of one from outside. Only in read committed.';

-- Of a thousand rows many have the same verdict, word for word. Each different one is sent and read once.
drop function app.apply_verdicts(bigint[], text[], double precision[], jsonb[]);
create function app.apply_verdicts(
  ids bigint[],
  statuses text[],
  progresses double precision[],
  explanations jsonb[],
  verdict_of integer[] default null
) returns integer
  language plpgsql volatile set search_path = ''
  -- Always by the primary key: a plan that was made and kept while the table was still small would read all of it.
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set plan_cache_mode = auto
as $$
declare
  judged_ids bigint[];
  completed_ids bigint[];
  user_ids text[];
begin
  -- For a few rows planning takes longer than all the rest. For many the right plan matters more, and one that was kept from
  -- when a table was empty can be a thousand times slower.
  perform set_config(
    'plan_cache_mode',
    case when cardinality(ids) <= 10 then 'force_generic_plan' else 'force_custom_plan' end,
    true
  );
  -- What the triggers do for a change by hand, row by row, is done here for all rows at once.
  perform set_config('incentives.applying_verdicts', 'on', true);
  with judged as (
    update app.user_incentives as ui
    set evaluation_due = false,
      status = statuses[verdict.n],
      progress = progresses[verdict.n],
      explanation = explanations[verdict.n],
      completed_at = case when statuses[verdict.n] = 'completed' then now() end,
      updated_at = now()
    from (
      select id, coalesce(n, position::integer) as n
      from unnest(ids, verdict_of) with ordinality as verdict (id, n, position)
    ) as verdict
    where ui.id = verdict.id
    and ui.status <> 'completed'
    returning ui.id, ui.user_id, ui.status
  )
  select array_agg(id), array_agg(id) filter (where status = 'completed'), array_agg(user_id)
  into judged_ids, completed_ids, user_ids
  from judged;

  -- What is won stays won: a completed row keeps its verdict, and is only no longer due. One that was inserted as
  -- completed is recorded and rewarded now; for the others that was done long ago, and is not done twice.
  if cardinality(judged_ids) is distinct from cardinality(ids) then
    with kept as (
      update app.user_incentives
      set evaluation_due = false
      where id = any (ids)
      and evaluation_due
      returning id, user_id
    )
    select user_ids || array_agg(user_id), completed_ids || array_agg(id)
    into user_ids, completed_ids
    from kept;
  end if;

  perform app.mark_stale(user_ids);
  if completed_ids <> '{}' then
    perform app.record_completions(completed_ids);
  end if;
  perform set_config('incentives.applying_verdicts', 'off', true);
  return cardinality(user_ids);
end
$$;
comment on function app.apply_verdicts(bigint[], text[], double precision[], jsonb[], integer[]) is
  'Writes the verdicts on rows that the caller has claimed (locked) in this same transaction: for each row the verdict whose number verdict_of says, from 1, or the one in its own place. Returns how many were written.';

-- As before, but up to three thousand events a job: a batch is one job a listener.
create or replace function app.tg_incentive_events__announce() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  first_id bigint;
  last_id bigint;
begin
  select min(id), max(id) into first_id, last_id from recorded;
  if first_id is null then
    return null;
  end if;

  -- A wake-up, never the truth: whoever hears it reads the table. Its size does not grow with the batch.
  perform pg_notify('incentive_completed', json_build_object('first', first_id, 'last', last_id)::text);

  perform graphile_worker.add_jobs(array(
    select row(
      'deliver_incentive_completed',
      json_agg(json_build_object('listener', listener.name, 'event_id', event.id::text) order by event.id),
      -- One job of a listener at a time: a slow one never takes all the slots that judging needs too.
      'deliver_to_' || listener.name,
      null, null, null, null, null
    )::graphile_worker.job_spec
    from app.incentive_listeners as listener
    cross join (select id, (row_number() over (order by id) - 1) / 3000 as part from recorded) as event
    where listener.is_active
    group by listener.name, event.part
  ));
  return null;
end
$$;
comment on function app.tg_incentive_events__announce() is 'NOTIFY incentive_completed, and a delivery job per active listener and three thousand events.';

create function app.read_completions(event_ids bigint[])
  returns table (
    id bigint, user_incentive_id bigint, user_id text, incentive text, occurred_at timestamptz,
    reward text, kind text, amount numeric, unit text, active_listeners text
  )
  language plpgsql stable set search_path = ''
  -- Always by the keys: with statistics that are a little old the whole of app.user_incentives was read for each job.
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_generic_plan
as $$
begin
  return query
    select event.id, ui.id, ui.user_id, incentive.key, event.occurred_at,
      reward.key, reward.kind, given.amount, given.unit,
      to_json(array(select name from app.incentive_listeners where is_active))::text
    from app.incentive_events as event
    join app.user_incentives as ui on ui.id = event.user_incentive_id
    join app.incentives as incentive on incentive.id = event.incentive_id
    left join app.user_rewards as given on given.user_incentive_id = ui.id
    left join app.rewards as reward on reward.id = given.reward_id
    where event.id = any (event_ids)
    order by given.id;
end
$$;
comment on function app.read_completions(bigint[]) is
  'What the listeners are told of these events: a row for each event and reward, one without a reward (nulls) for an event that won none, and in each the names of the active listeners, as JSON.';
