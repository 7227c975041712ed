--! Previous: sha1:a4b238119bdd299bd6f1ff3918725da7b581cd5b
--! Hash: sha1:0bd48ace59ac43f3295f1bedc6fa1c840e31ce04
--! Message: refresh

-- The refresh, view by view (000011 says why). The procedures commit as they go, so they can be called neither in a transaction
-- block nor with `security definer` or `set`: run them as the owner, with every name qualified.
--
-- One at a time: the lock is the session's, as a transaction's would be gone with the first view. Whoever calls from a pool
-- closes the connection afterwards, so that the lock is gone however the call ended.

drop procedure cache.refresh();

create function cache.is_refreshing() returns boolean
  language sql volatile set search_path = '' as $$
  select exists (
    select from pg_locks
    where locktype = 'advisory'
    and database = (select oid from pg_database where datname = current_database())
    and (classid::bigint << 32) | objid::bigint = cache.refresh_lock()
    and objsubid = 1
    and granted
  )
$$;
comment on function cache.is_refreshing() is 'Whether a refresh is running, or a clearing.';

create function cache.is_cleared() returns boolean
  language sql stable set search_path = '' as $$
  select exists (
    select from cache.stale_users
    where user_id = cache.everybody()
    and changed_in = cache.until_built()
  )
$$;
comment on function cache.is_cleared() is 'Whether the snapshot is to stay empty until cache.build().';

-- One core is enough: the others are for members. Counted and analyzed in the same transaction, so that plans suit the rows.
create function cache.refresh_view(view_name text) returns bigint
  language plpgsql volatile
  set search_path = ''
  set max_parallel_workers_per_gather = 0
as $$
declare
  is_populated boolean;
  row_count bigint;
begin
  select ispopulated into strict is_populated
  from pg_matviews
  where schemaname = 'cache'
  and matviewname = refresh_view.view_name;
  -- One that somebody left `with no data` fails every read, so that nobody minds its being locked.
  execute format(
    'refresh materialized view %s cache.%I',
    case when is_populated then 'concurrently' end,
    refresh_view.view_name
  );
  execute format('analyze cache.%I', refresh_view.view_name);
  execute format('select count(*) from cache.%I', refresh_view.view_name) into row_count;
  return row_count;
end
$$;
comment on function cache.refresh_view(text) is 'Refreshes one view; returns how many rows it has. Readers and writers are not blocked.';

-- Those of a member who is being marked at this moment are passed over, not waited for: they would stay anyway. Waiting while
-- holding the others could deadlock with a batch of verdicts.
create function cache.delete_marks(seen_by pg_snapshot, inout from_user_id text, out deleted bigint)
  language sql volatile set search_path = '' as $$
  with gone as (
    delete from cache.stale_users
    where user_id in (
      select user_id
      from cache.stale_users
      where user_id >= from_user_id
      and pg_visible_in_snapshot(changed_in, seen_by)
      order by user_id
      limit 5000
      for update skip locked
    )
    returning user_id
  )
  select max(user_id), count(*)
  from gone
$$;
comment on function cache.delete_marks(pg_snapshot, text) is
  'Deletes the next five thousand marks of changes that this snapshot saw. Returns the last one''s member, and how many.';

create procedure cache.take_turn(wait boolean, inout is_mine boolean)
  language plpgsql as $$
begin
  -- An error in a transaction block, before anything was done.
  commit;
  is_mine := pg_catalog.pg_try_advisory_lock(cache.refresh_lock());
  if is_mine then
    return;
  elsif not wait then
    raise notice 'Another refresh is running; this one leaves it to that.';
    return;
  end if;
  raise notice 'Another refresh is running; waiting for it.';
  -- Not inside the lock itself: that would hold one snapshot all the time.
  while not is_mine loop
    perform pg_catalog.pg_sleep(0.1);
    commit;
    is_mine := pg_catalog.pg_try_advisory_lock(cache.refresh_lock());
  end loop;
end
$$;
comment on procedure cache.take_turn(boolean, boolean) is 'Takes the lock of the refresh for this session, or says that another has it.';

create procedure cache.refresh(wait boolean default false, inout outcome text default null)
  language plpgsql as $$
declare
  views constant text[] := array['user_incentives', 'user_rewards', 'user_summaries', 'incentive_totals'];
  is_mine boolean;
  let_go boolean;
  taken pg_catalog.pg_snapshot;
  this_id bigint;
  rows_now bigint;
  from_user_id text := '';
  deleted bigint;
begin
  call cache.take_turn(wait, is_mine);
  if not is_mine then
    outcome := 'left';
    return;
  end if;
  if cache.is_cleared() then
    raise notice 'The cache is cleared and everybody is served live; cache.build() fills it.';
    let_go := pg_catalog.pg_advisory_unlock(cache.refresh_lock());
    outcome := 'cleared';
    return;
  end if;

  -- Who left one undone is dead: this session has the lock.
  delete from cache.refreshes where took is null;
  delete from cache.refreshes where id <= (select pg_catalog.max(id) - 100 from cache.refreshes);
  taken := pg_catalog.pg_current_snapshot();
  insert into cache.refreshes (taken_at) values (pg_catalog.clock_timestamp()) returning id into this_id;
  insert into cache.refresh_steps (refresh_id, place, view_name)
  select this_id, place, view_name
  from pg_catalog.unnest(views) with ordinality as step (view_name, place);
  commit;

  for step in 1 .. pg_catalog.cardinality(views) loop
    update cache.refresh_steps
    set began_at = pg_catalog.clock_timestamp()
    where refresh_id = this_id
    and place = step;
    commit;
    begin
      rows_now := cache.refresh_view(views[step]);
    exception when query_canceled or others then
      let_go := pg_catalog.pg_advisory_unlock(cache.refresh_lock());
      raise;
    end;
    update cache.refresh_steps
    set took = pg_catalog.clock_timestamp() - began_at, row_count = rows_now
    where refresh_id = this_id
    and place = step;
    commit;
  end loop;

  -- Only now, when every view is there for everybody. A change that committed while the refresh ran may be in no view, or in
  -- the later ones; its mark stays.
  while deleted is distinct from 0 loop
    select marks.from_user_id, marks.deleted into from_user_id, deleted
    from cache.delete_marks(taken, from_user_id) as marks;
    commit;
  end loop;
  update cache.refreshes set took = pg_catalog.clock_timestamp() - taken_at where id = this_id;
  commit;
  let_go := pg_catalog.pg_advisory_unlock(cache.refresh_lock());
  outcome := 'taken';
end
$$;
comment on procedure cache.refresh(boolean, text) is
  'Takes a new snapshot, unless another refresh is running (left; or waits for it first) or the cache is cleared. Writers and readers are not blocked. call cache.refresh();';

create procedure cache.build(wait boolean default false, inout outcome text default null)
  language plpgsql as $$
begin
  update cache.stale_users
  set changed_in = pg_catalog.pg_current_xact_id()
  where user_id = cache.everybody();
  call cache.refresh(wait, outcome);
end
$$;
comment on procedure cache.build(boolean, text) is
  'Fills the snapshot after cache.clear(); else the same as cache.refresh(). Killed midway, the next refresh goes on. call cache.build();';

-- By the way of a refresh that finds no rows: a reader who began before the mark still finds those of then.
create procedure cache.clear(wait boolean default false, inout outcome text default null)
  language plpgsql as $$
declare
  is_mine boolean;
  let_go boolean;
  view_name text;
begin
  call cache.take_turn(wait, is_mine);
  if not is_mine then
    outcome := 'left';
    return;
  end if;
  insert into cache.stale_users (user_id, changed_in)
  values (cache.everybody(), cache.until_built())
  on conflict (user_id) do update
  set changed_in = excluded.changed_in;
  commit;

  -- Not the totals: they hold no member's data, and there is nothing live to read instead.
  foreach view_name in array array['user_incentives', 'user_rewards', 'user_summaries'] loop
    perform pg_catalog.set_config('incentives.clearing_cache', 'on', true);
    begin
      perform cache.refresh_view(view_name);
    exception when query_canceled or others then
      let_go := pg_catalog.pg_advisory_unlock(cache.refresh_lock());
      raise;
    end;
    commit;
  end loop;
  let_go := pg_catalog.pg_advisory_unlock(cache.refresh_lock());
  outcome := 'cleared';
end
$$;
comment on procedure cache.clear(boolean, text) is
  'Empties the snapshot of members'' rows and has everybody served live until cache.build(). call cache.clear();';

-- For who refreshes by the clock: a worker's schedule, or on change. A refresh that takes longer than its interval must not run
-- one after another without end, so as much time has to pass after it as it took.
create function cache.why_not_refresh(at_most_every interval default '0') returns text
  language sql stable set search_path = '' as $$
  select case
    when cache.is_cleared() then 'cleared'
    when not exists (select from cache.stale_users) then 'unchanged'
    when clock_timestamp() < last.taken_at + last.took + last.took then 'resting'
    when clock_timestamp() < last.taken_at + at_most_every then 'recent'
  end
  from (select) as always
  left join lateral (
    select taken_at, took
    from cache.refreshes
    where took is not null
    order by id desc
    limit 1
  ) as last on true
$$;
comment on function cache.why_not_refresh(interval) is
  'Why a refresh by the clock is left out: cleared, unchanged (nobody changed since the last), resting (the last took so long), recent. Null: it should be.';
