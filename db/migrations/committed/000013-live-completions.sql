--! Previous: sha1:6a522ce640cecc2af7fc6c8b3c456db6ee3ecfc8
--! Hash: sha1:0712ff9946bf8f9b8984f4644f4dc906df03622f
--! Message: live completions

-- Live results: what an API process asks for when it was told that something was completed, to tell those of its clients
-- whose completion it is. It asks with a position, and is answered what was recorded since and the next position.
--
-- A position is a snapshot, which knows exactly which transactions it has seen: whatever is visible now and was recorded by
-- a transaction that the last position had not seen is new, once. The obvious other ways are wrong or slow. The highest id
-- loses events, because a smaller id may commit later. Everything below the oldest open transaction loses nothing, but one
-- forgotten transaction would then hold up everybody's results.
--
-- A position claims to have seen only what came before the latest event. A server that crashes forgets the ids of
-- transactions that left nothing in its log, and gives them out again: a position that had seen those would miss
-- what is recorded under them later. Up to an event that was committed nothing is given out again.

alter table app.incentive_events
  add column recorded_in xid8 not null default pg_current_xact_id();
-- What was recorded since a position, and the latest event.
create index incentive_events_in_order on app.incentive_events (recorded_in, id);
comment on column app.incentive_events.recorded_in is
  'The transaction it was recorded in. Ids are not in the order of commits; this tells what is new.';

create function app.completions_position() returns pg_snapshot
  language sql stable set search_path = '' as $$
  with latest as (
    select coalesce(
      (
        select least((recorded_in::text::bigint + 1)::text::xid8, pg_snapshot_xmax(pg_current_snapshot()))
        from app.incentive_events
        order by recorded_in desc
        limit 1
      ),
      '1'
    ) as bound
  ),
  still_open as (
    select xid
    from latest
    cross join pg_snapshot_xip(pg_current_snapshot()) as xid
    where xid < latest.bound
  )
  select concat_ws(
    ':',
    coalesce((select xid from still_open order by xid limit 1), latest.bound),
    latest.bound,
    coalesce((select string_agg(xid::text, ',' order by xid) from still_open), '')
  )::pg_snapshot
  from latest
$$;
comment on function app.completions_position() is 'Which events there are now, to ask later for those that came since.';

-- One question for all clients of a process, whatever their number. Its effort is that of the events since, however many
-- there are in all and however long a transaction has been open: both conditions go along the index.
create function api.read_completions(positions text[], members text[])
  returns table ("position" text, since text, user_id text, event_id text, user_incentive_id text, occurred_at timestamptz)
  language sql stable security definer set search_path = ''
  -- A plan that reads all events would be right for a table that is new.
  set enable_seqscan = off
as $$
  with here as materialized (
    select app.completions_position() as "position"
  ),
  waiting as materialized (
    select since, user_id
    from unnest(positions, members) as waiting (since, user_id)
  ),
  recorded as materialized (
    select past.since, event.id, event.recorded_in, event.user_incentive_id, event.occurred_at
    from (select distinct since from waiting) as past
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
    select recorded.since, waiting.user_id, recorded.id, recorded.recorded_in, recorded.user_incentive_id,
      recorded.occurred_at
    from recorded
    join app.user_incentives as ui on ui.id = recorded.user_incentive_id
    join waiting on waiting.since = recorded.since and waiting.user_id = ui.user_id
  )
  select here."position"::text, heard.since, heard.user_id, heard.id::text, heard.user_incentive_id::text,
    heard.occurred_at
  from here
  left join heard on true
  order by heard.recorded_in, heard.id
$$;
comment on function api.read_completions(text[], text[]) is
  E'@behavior -*\nThe events of these members that came after these positions (one for each member), in order, and the position now; a row without an event when there is none.';

-- For one member who was away: along their own few rows, so it does not matter for how long.
create function api.read_missed_completions(member text, since text, pending bigint[])
  returns table ("position" text, event_id text, user_incentive_id text, occurred_at timestamptz)
  language sql stable security definer set search_path = '' as $$
  with here as materialized (
    select app.completions_position() as "position"
  ),
  missed as (
    select event.id, event.recorded_in, event.user_incentive_id, event.occurred_at
    from app.user_incentives as ui
    join app.incentive_events as event on event.user_incentive_id = ui.id
    where ui.user_id = read_missed_completions.member
    and (
      not pg_visible_in_snapshot(event.recorded_in, read_missed_completions.since::pg_snapshot)
      or event.id = any (read_missed_completions.pending)
    )
  )
  select here."position"::text, missed.id::text, missed.user_incentive_id::text, missed.occurred_at
  from here
  left join missed on true
  order by missed.recorded_in, missed.id
$$;
comment on function api.read_missed_completions(text, text, bigint[]) is
  E'@behavior -*\nThe events of one member that came after a position, and those that were pending at it, in order, and the position now.';

-- Not to members, who could ask for somebody else: the API asks as itself, for members whose tokens it has verified, and is
-- given ids; what was recorded is read as that member, as ever.
grant usage on schema api to incentives_authenticator;
grant execute on function api.read_completions(text[], text[]) to incentives_authenticator;
grant execute on function api.read_missed_completions(text, text, bigint[]) to incentives_authenticator;
