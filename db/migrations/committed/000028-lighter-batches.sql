--! Previous: sha1:8a73cac0a4e227110c1589c92af4e3df67424e4a
--! Hash: sha1:7a6563f1ebb61abaea7d2147bfe4a76ebdc354e9
--! Message: lighter batches

-- Stages 4 to 8: what a batch carries to and fro costs the worker as much as judging.

-- Read after the rows are locked, the clock too: who changes an incentive makes due again what is not locked then.
create function app.read_catalogue() returns json
  language sql volatile set search_path = '' as $$
  select json_build_object(
    'now', date_part('epoch', clock_timestamp()) * 1000,
    'incentives', coalesce(json_agg(json_build_object(
      'id', id, 'key', key, 'evaluator', evaluator, 'criteria', criteria, 'is_active', is_active,
      'starts_at', date_part('epoch', starts_at) * 1000, 'ends_at', date_part('epoch', ends_at) * 1000
    )), '[]')
  )
  from app.incentives
$$;
comment on function app.read_catalogue() is
  'What judging needs of all incentives, and the clock; times in milliseconds since 1970, infinite ones as text.';

-- The rows travel as three texts instead of a message each, and no more of them than fits into memory: by their number alone a
-- batch of large ones took the worker down.
drop function app.claim_due_rows(integer[], bigint, integer, interval);
create function app.claim_due_rows(
  judgeable integer[], above bigint, at_most integer, wait interval,
  out ids text, out incentive_ids text, out data text, out is_all boolean, out catalogue json
)
  language plpgsql volatile set search_path = ''
  -- Always by the index of due rows: a plan that was made and kept while most rows were due would read all that were judged.
  set enable_seqscan = off
as $$
declare
  bedtime constant timestamptz := clock_timestamp() + wait;
  ids_of_rows constant regclass := pg_get_serial_sequence('app.user_incentives', 'id');
  -- A row is given its id some tenths of a millisecond before its writer has committed: after that it is not worth sleeping. Not
  -- for longer, because whoever looks without a pause is in the way of those who write.
  given bigint := pg_sequence_last_value(ids_of_rows);
  sleepless_until timestamptz := '-infinity';
  start bigint;
begin
  for look in 1..2147483647 loop
    -- Now and then below too: a row is given its id before its writer commits.
    start := case when look % 10 = 0 then 0 else above end;
    with due as materialized (
      select ui.id, ui.incentive_id, ui.data
      from app.user_incentives as ui
      where ui.evaluation_due
      and ui.id > start
      and ui.incentive_id = any (judgeable)
      order by ui.id
      limit at_most
      for update skip locked
    ),
    -- As it is stored, so that what is too much is not unpacked. The first always fits.
    measured as (
      select due.*, sum(pg_column_size(due.data)) over (rows between unbounded preceding and 1 preceding) as size_before
      from due
    )
    select string_agg(measured.id::text, ','), string_agg(measured.incentive_id::text, ','),
      string_agg(measured.data::text, E'\n'), count(*) < at_most and count(*) = (select count(*) from due)
    into ids, incentive_ids, data, is_all
    from measured
    where measured.size_before is null or measured.size_before < 4000000;
    exit when ids is not null or clock_timestamp() >= bedtime;
    if pg_sequence_last_value(ids_of_rows) is distinct from given then
      given := pg_sequence_last_value(ids_of_rows);
      sleepless_until := clock_timestamp() + interval '0.3 milliseconds';
    elsif clock_timestamp() > sleepless_until then
      -- Rounded up to a millisecond; one that says a whole millisecond sleeps two.
      perform pg_sleep(0.0002);
    end if;
  end loop;
  catalogue := app.read_catalogue();
end
$$;
comment on function app.claim_due_rows(integer[], bigint, integer, interval) is
  'Locks due rows of these incentives, those above an id first, as many as fit into 4 MB as they are stored. Returns their ids, their incentives and their data in the same order, by commas and by lines, or nulls; whether these are all; and the catalogue. When there are none it looks again every millisecond for so long, and at once while one is being written. A look from here costs a twentieth of one from outside. Only in read committed.';

-- In columns: a message for each event, and reading it, cost the worker more than calling its listeners.
drop function app.read_completions(bigint[]);
create function app.read_completions(event_ids bigint[]) returns json
  language plpgsql stable set search_path = ''
  -- Always by the keys: with statistics that are a little old the whole of app.user_incentives was read for each job. And planned
  -- each time: a plan that was kept from when there were no events compared each of them with each of those wanted.
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_custom_plan
as $$
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
    join app.user_incentives as ui on ui.id = event.user_incentive_id
    join app.incentives as incentive on incentive.id = event.incentive_id
    left join app.user_rewards as given on given.user_incentive_id = ui.id
    left join app.rewards as reward on reward.id = given.reward_id
    where event.id = any (event_ids)
  );
end
$$;
comment on function app.read_completions(bigint[]) is
  'What the listeners are told of these events, in columns: a place for each event and reward, one with nulls for an event that won none; when it occurred, in milliseconds since 1970; and the names of the active listeners.';
