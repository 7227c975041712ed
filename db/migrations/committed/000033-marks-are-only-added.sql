--! Previous: sha1:e3c6e5267d0fff279e5ec55675f2aa6f2532d66a
--! Hash: sha1:0cd57803023f8b983079b89fa84b973e65bd829d
--! Message: marks are only added

-- A mark is only ever added. One row a member meant to look for theirs first, to keep an order, and to write a speculative row: a
-- mark cost a verdict twice what it does now, and two batches with members in common waited for one another. Now a member has a mark
-- for each change since the snapshot, and a refresh takes away those it saw.

-- Anybody may ask this, so it looks at some thousand marks at the most (000015): at each member's oldest.
create or replace view api.cache_statuses with (security_barrier) as
select last.taken_at,
  (extract(epoch from last.took) * 1000)::double precision as took_ms,
  exists (select from cache.stale_users where user_id = '') as everybody_is_live,
  live.members as live_members,
  live.since as live_since
from (select) as always
left join lateral (
  select taken_at, took
  from cache.refreshes
  where took is not null
  order by id desc
  limit 1
) as last on true
cross join lateral (
  with recursive marked as (
    (
      select user_id, changed_at
      from cache.stale_users
      where user_id > ''
      order by user_id, changed_at
      limit 1
    )
    union all
    select next.user_id, next.changed_at
    from marked
    cross join lateral (
      select user_id, changed_at
      from cache.stale_users
      where user_id > marked.user_id
      order by user_id, changed_at
      limit 1
    ) as next
  )
  select least(count(distinct user_id), 10000)::integer as members, min(since) as since
  from (
    (
      select user_id, changed_at as since
      from marked
      limit 10000
    )
    union all
    (
      select user_id, updated_at
      from app.user_incentives
      where evaluation_due
      limit 10000
    )
  ) as known
) as live;

-- Not when each member changed first any more: their oldest mark says that.
alter table cache.stale_users
  drop constraint stale_users_pkey,
  drop column live_since;
-- By member: who reads asks for their own. With the time: whoever counts members goes from one's oldest mark to the next's.
create index stale_users_by_user on cache.stale_users (user_id, changed_at);
comment on table cache.stale_users is
  'Members whose rows changed after the snapshot was taken, with a mark for each change; they are served live.';
comment on column cache.stale_users.changed_in is 'The transaction that changed them; a refresh that saw it may delete the mark.';
comment on column cache.stale_users.changed_at is 'When it did.';

create or replace function app.mark_stale(user_ids text[]) returns void
  language plpgsql volatile set search_path = '' as $$
begin
  insert into cache.stale_users (user_id, changed_in)
  select user_id, pg_current_xact_id()
  from unnest(user_ids) as user_id;
  perform app.notify_members(user_ids);
end
$$;

-- Nobody changes a mark that a snapshot has seen, so none has to be locked first.
create or replace function cache.delete_marks(seen_by pg_snapshot, inout from_user_id text, out deleted bigint)
  language sql volatile set search_path = '' as $$
  with gone as (
    delete from cache.stale_users
    where ctid = any (array(
      select ctid
      from cache.stale_users
      where user_id >= from_user_id
      and pg_visible_in_snapshot(changed_in, seen_by)
      order by user_id
      limit 5000
    ))
    returning user_id
  )
  select max(user_id), count(*)
  from gone
$$;

-- Of a cleared cache it takes away the marks, which are of use to nobody and would pile up.
create or replace procedure cache.refresh(wait boolean default false, inout outcome text default null)
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
    -- Everybody is served live as it is, and whoever fills the cache sees what has committed by now.
    delete from cache.stale_users where user_id <> cache.everybody();
    commit;
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

create or replace procedure cache.clear(wait boolean default false, inout outcome text default null)
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
  select cache.everybody(), cache.until_built()
  where not cache.is_cleared();
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
