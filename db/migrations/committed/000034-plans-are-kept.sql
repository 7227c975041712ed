--! Previous: sha1:0cd57803023f8b983079b89fa84b973e65bd829d
--! Hash: sha1:f527a345cbe031c494f6d97e9c325176f2234f95
--! Message: plans are kept

-- Stages 3 to 8: a batch is not planned any more. Its statements were planned anew for each batch of more than ten rows, because a
-- plan that was made for tables still empty, and kept, could read all of a large one for each row. Planning took some 2 ms
-- while members wrote. Now each statement leaves the planner one way only, and the plan is kept:
--
--   what is wanted is named as `id = any (ids)`, and with all other scans off that is looked up in the index that serves it
--   (a bitmap scan needs a condition on its index; a plain one may read all of the index);
--   everything else is a hash join, whose effort is that of its rows, whatever their number.
--
-- Before PostgreSQL 18 a scan that is off counts as so costly that JIT would compile the statement, which takes longer than all
-- the rest: so that is off too.

alter table app.undelivered_events
  -- Ids compress badly, and trying took a fiftieth of all that a drain cost.
  alter column event_ids set storage external;

create or replace function app.read_catalogue() returns json
  -- Not in SQL: before PostgreSQL 18 that is planned at each call.
  language plpgsql volatile set search_path = '' as $$
begin
  return (
    select json_build_object(
      'now', date_part('epoch', clock_timestamp()) * 1000,
      'incentives', coalesce(json_agg(json_build_object(
        'id', id, 'key', key, 'evaluator', evaluator, 'criteria', criteria, 'is_active', is_active,
        'starts_at', date_part('epoch', starts_at) * 1000, 'ends_at', date_part('epoch', ends_at) * 1000
      )), '[]')
    )
    from app.incentives
  );
end
$$;

-- The rows are locked by whoever completes them, so nobody else records them meanwhile; the unique constraints stand behind it.
-- A completed row that was recorded before, and taken back and completed again by hand, is not paid again.
drop function app.record_completions(bigint[]);
create function app.record_completions(ids bigint[], user_ids text[], incentive_ids integer[]) returns void
  language plpgsql volatile
  set search_path = ''
  set plan_cache_mode = force_generic_plan
  set jit = off
  set enable_seqscan = off
  set enable_indexscan = off
  set enable_indexonlyscan = off
  set enable_nestloop = off
  set enable_mergejoin = off
as $$
begin
  with won as materialized (
    select id, user_id, incentive_id
    from unnest(ids, user_ids, incentive_ids) as completed (id, user_id, incentive_id)
    where not exists (
      select from app.incentive_events as event
      where event.user_incentive_id = any (ids)
      and event.user_incentive_id = completed.id
    )
  ),
  recorded as (
    insert into app.incentive_events (user_incentive_id, incentive_id)
    select id, incentive_id from won
  )
  insert into app.user_rewards (user_id, user_incentive_id, reward_id, amount, unit)
  select won.user_id, won.id, reward.id, reward.amount, reward.unit
  from won
  join app.incentive_rewards on incentive_rewards.incentive_id = won.incentive_id
  join app.rewards as reward on reward.id = incentive_rewards.reward_id
  where not exists (
    select from app.user_rewards as given
    where given.user_incentive_id = any (ids)
    and given.user_incentive_id = won.id
    and given.reward_id = reward.id
  );
end
$$;
comment on function app.record_completions(bigint[], text[], integer[]) is
  'Writes the event and the rewards of each completed row, once: their ids, their members and their incentives, in one order.';

create or replace function app.tg_user_incentives__record_change() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  completed boolean := tg_op = 'UPDATE' and new.status = 'completed' and old.status <> 'completed';
begin
  if tg_op = 'DELETE' and exists (select from app.user_rewards where user_incentive_id = old.id) then
    raise exception 'A user incentive that won a reward stays; delete the reward first.' using errcode = 'IN001';
  end if;
  -- Marked first, because a completion is announced at once.
  if completed or tg_op <> 'UPDATE' or not new.evaluation_due and new is distinct from old then
    perform app.mark_stale(array[coalesce(new.user_id, old.user_id)]);
  end if;
  if completed then
    perform app.record_completions(array[new.id], array[new.user_id], array[new.incentive_id]);
  end if;
  return null;
end
$$;

create function app.apply_verdicts(ids bigint[], verdict_of integer[], verdicts jsonb) returns integer
  language plpgsql volatile
  set search_path = ''
  set plan_cache_mode = force_generic_plan
  set jit = off
  set enable_seqscan = off
  set enable_indexscan = off
  set enable_indexonlyscan = off
  set enable_nestloop = off
  set enable_mergejoin = off
as $$
declare
  judged record;
begin
  -- What the triggers do for a change by hand, row by row, is done here for all rows at once.
  perform set_config('incentives.applying_verdicts', 'on', true);
  with judged as (
    update app.user_incentives as ui
    set evaluation_due = false,
      status = verdict.status,
      progress = verdict.progress,
      explanation = verdict.explanation,
      completed_at = case when verdict.status = 'completed' then now() end,
      updated_at = now()
    from unnest(ids, verdict_of) as has (id, number)
    -- A row without a verdict is an error (a status that is null), never passed over.
    left join rows from (
      jsonb_to_recordset(verdicts) as (status text, progress double precision, explanation jsonb)
    ) with ordinality as verdict (status, progress, explanation, number) using (number)
    where ui.id = any (ids)
    and ui.id = has.id
    and ui.status <> 'completed'
    returning ui.id, ui.user_id, ui.incentive_id, ui.status
  )
  select array_agg(user_id) as user_ids,
    array_agg(id) filter (where status = 'completed') as completed_ids,
    array_agg(user_id) filter (where status = 'completed') as completed_user_ids,
    array_agg(incentive_id) filter (where status = 'completed') as completed_incentive_ids
  into judged
  from judged;

  -- What is won stays won: a completed row keeps its verdict, and is only no longer due. One that was inserted as
  -- completed is recorded and rewarded now; for the others that was done long ago, and is not done twice.
  if cardinality(judged.user_ids) is distinct from cardinality(ids) then
    with kept as (
      update app.user_incentives
      set evaluation_due = false
      where id = any (ids)
      and evaluation_due
      and status = 'completed'
      returning id, user_id, incentive_id
    )
    select judged.user_ids || array_agg(user_id) as user_ids,
      judged.completed_ids || array_agg(id) as completed_ids,
      judged.completed_user_ids || array_agg(user_id) as completed_user_ids,
      judged.completed_incentive_ids || array_agg(incentive_id) as completed_incentive_ids
    into judged
    from kept;
  end if;

  perform app.mark_stale(judged.user_ids);
  if judged.completed_ids <> '{}' then
    perform app.record_completions(
      judged.completed_ids, judged.completed_user_ids, judged.completed_incentive_ids
    );
  end if;
  perform set_config('incentives.applying_verdicts', 'off', true);
  return cardinality(judged.user_ids);
end
$$;
comment on function app.apply_verdicts(bigint[], integer[], jsonb) is
  'Writes the verdicts on rows that the caller has claimed (locked) in this same transaction: for each row the verdict whose number verdict_of says, from 1, of an array of {"status", "progress", "explanation"}. Returns how many were written.';

-- For a worker of the version before, which may run on for a while beside this schema: it would take each row for a bad one.
create or replace function app.apply_verdicts(
  ids bigint[],
  statuses text[],
  progresses double precision[],
  explanations jsonb[],
  verdict_of integer[] default null
) returns integer
  language sql volatile set search_path = '' as $$
  select app.apply_verdicts(
    ids,
    coalesce(verdict_of, array(select generate_series(1, cardinality(ids)))),
    (
      select jsonb_agg(
        jsonb_build_object('status', status, 'progress', progress, 'explanation', explanation) order by number
      )
      from unnest(statuses, progresses, explanations) with ordinality
        as verdict (status, progress, explanation, number)
    )
  )
$$;
comment on function app.apply_verdicts(bigint[], text[], double precision[], jsonb[], integer[]) is
  'The same in columns, for workers of the version before.';

create or replace function app.read_completions(event_ids bigint[]) returns json
  language plpgsql stable
  set search_path = ''
  set plan_cache_mode = force_generic_plan
  set max_parallel_workers_per_gather = 0
  set jit = off
  set enable_seqscan = off
  set enable_indexscan = off
  set enable_indexonlyscan = off
  set enable_nestloop = off
  set enable_mergejoin = off
as $$
declare
  completed constant bigint[] := array(
    select user_incentive_id from app.incentive_events where id = any (event_ids)
  );
begin
  return (
    select json_build_object(
      'ids', coalesce(array_agg(event.id::text), '{}'),
      'user_incentive_ids', coalesce(array_agg(ui.id::text), '{}'),
      'user_ids', coalesce(array_agg(ui.user_id), '{}'),
      'incentives', coalesce(array_agg(incentive.key), '{}'),
      'occurred_at', coalesce(array_agg(date_part('epoch', event.occurred_at) * 1000), '{}'),
      'rewards', coalesce(array_agg(reward.key), '{}'),
      'kinds', coalesce(array_agg(reward.kind), '{}'),
      'amounts', coalesce(array_agg(given.amount::text), '{}'),
      'units', coalesce(array_agg(given.unit), '{}'),
      'active_listeners', array(select name from app.incentive_listeners where is_active)
    )
    from app.incentive_events as event
    join app.user_incentives as ui on ui.id = event.user_incentive_id and ui.id = any (completed)
    join app.incentives as incentive on incentive.id = event.incentive_id
    left join app.user_rewards as given
      on given.user_incentive_id = ui.id and given.user_incentive_id = any (completed)
    left join app.rewards as reward on reward.id = given.reward_id
    where event.id = any (event_ids)
  );
end
$$;
