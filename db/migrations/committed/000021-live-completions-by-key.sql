--! Previous: sha1:0f9186d5beac5f143b8682badb6d2c26450101b2
--! Hash: sha1:8b35dd15c6caf3736aa8d9564a0ca1741fad44e9
--! Message: live completions by key

-- The same question, answered without a join of everybody who waits with everything that happened: the planner knows neither
-- number, took both for small, and compared each with each, a second for a thousand of both. Now each event is looked up by
-- its keys, its row first, and then its member among the keys of an object.
--
-- Positions and members are two lists. Almost always there is one position; when there are more, whoever asks picks out what
-- it asked for.

create or replace function api.read_completions(positions text[], members text[])
  returns table ("position" text, since text, user_id text, event_id text, user_incentive_id text, occurred_at timestamptz)
  language sql stable security definer set search_path = ''
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
  with here as materialized (
    select app.completions_position() as "position"
  ),
  waiting as materialized (
    select jsonb_object(members, members) as members
  ),
  recorded as materialized (
    select past.since, event.id, event.recorded_in, event.user_incentive_id, event.occurred_at
    from (select distinct unnest(positions) as since) as past
    cross join lateral (
      select *
      from app.incentive_events
      where recorded_in >= pg_snapshot_xmax(past.since::pg_snapshot)
      -- Restored from another server's dump it may be of a transaction to come.
      and recorded_in < pg_snapshot_xmax(pg_current_snapshot())
      union all
      select *
      from app.incentive_events
      where recorded_in = any (array(select pg_snapshot_xip(past.since::pg_snapshot)))
    ) as event
  ),
  heard as (
    select recorded.since, ui.user_id, recorded.id, recorded.recorded_in, recorded.user_incentive_id,
      recorded.occurred_at
    from recorded
    join app.user_incentives as ui on ui.id = recorded.user_incentive_id
    where (select waiting.members from waiting) ? ui.user_id
  )
  select here."position"::text, heard.since, heard.user_id, heard.id::text, heard.user_incentive_id::text,
    heard.occurred_at
  from here
  left join heard on true
  order by heard.recorded_in, heard.id
$$;
comment on function api.read_completions(text[], text[]) is
  E'@behavior -*\nThe events of any of these members that came after each of these positions, in order, and the position now; a row without an event when there is none.';
