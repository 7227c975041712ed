--! Previous: sha1:c452471fb9b796f8cc77c57d6ada059a974d370a
--! Hash: sha1:18f55c3558124f1dc9908afc1f0a8cbe7ec7c5d9
--! Message: cache

-- Stage 9, cache: a snapshot, and who has changed since. Refreshing costs the same whether nothing or everything changed,
-- so it is rare; until then a member who changed is served from the tables (api), and only they.

create materialized view cache.user_incentives as
select id, user_id, incentive_id, data, status, progress, explanation, completed_at, created_at, updated_at
from app.user_incentives;
-- Unique: what `refresh materialized view concurrently` needs. By user: what a member reads by.
create unique index user_incentives_key on cache.user_incentives (id);
create index user_incentives_by_user on cache.user_incentives (user_id);
comment on materialized view cache.user_incentives is 'app.user_incentives as it was at the last refresh.';

create materialized view cache.user_rewards as
select ur.id, ur.user_id, ur.user_incentive_id, ui.incentive_id, ur.reward_id, ur.amount, ur.unit, ur.won_at
from app.user_rewards as ur
join app.user_incentives as ui on ui.id = ur.user_incentive_id;
create unique index user_rewards_key on cache.user_rewards (id);
create index user_rewards_by_user on cache.user_rewards (user_id);
comment on materialized view cache.user_rewards is 'app.user_rewards as it was at the last refresh.';

create table cache.stale_users (
  user_id text primary key,
  changed_in xid8 not null,
  changed_at timestamptz not null default now()
);
comment on table cache.stale_users is 'Members whose rows changed after the snapshot was taken; they are served live.';
comment on column cache.stale_users.changed_in is 'The transaction that changed them last; a refresh that saw it may delete the mark.';
alter table cache.stale_users enable row level security;

create table cache.refreshes (
  id bigint generated always as identity primary key,
  taken_at timestamptz not null,
  took interval not null,
  user_incentives bigint not null,
  user_rewards bigint not null
);
comment on table cache.refreshes is 'When each of the last hundred snapshots was taken, how long it took, and its rows.';

-- A row that is due makes its member live by itself, so a member's own write marks nobody. The verdict does, and so does
-- every other change of what a member sees: a deletion, a correction by hand, a reward taken back.
create function app.mark_stale(user_ids text[]) returns void
  language sql volatile set search_path = '' as $$
  insert into cache.stale_users (user_id, changed_in)
  select distinct user_id, pg_current_xact_id()
  from unnest(user_ids) as user_id
  -- In one order, so that two batches with members in common wait for one another and never deadlock.
  order by user_id
  on conflict (user_id) do update
  set changed_in = excluded.changed_in, changed_at = excluded.changed_at
  where stale_users.changed_in <> excluded.changed_in
$$;
comment on function app.mark_stale(text[]) is 'Has these members served live until a refresh has seen this transaction.';

-- One trigger for all that a change by hand needs, the completion's event and reward too (see _100_stamp_update for why one).
create function app.tg_user_incentives__record_change() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
begin
  if tg_op = 'UPDATE' and new.status = 'completed' and old.status <> 'completed' then
    perform app.record_completions(array[new.id]);
  end if;
  if tg_op = 'DELETE' or not new.evaluation_due then
    perform app.mark_stale(array[old.user_id]);
  end if;
  return null;
end
$$;
comment on function app.tg_user_incentives__record_change() is
  'A completion by hand is recorded and rewarded; the member of a row that changed and is not due is marked stale.';

create trigger _600_record_change after update or delete on app.user_incentives
  for each row when (current_setting('incentives.applying_verdicts', true) is distinct from 'on')
  execute function app.tg_user_incentives__record_change();

create function app.tg_user_rewards__mark_stale() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
begin
  if tg_op <> 'DELETE' and exists (
    select from changed
    left join app.rewards as reward on reward.id = changed.reward_id
    left join app.user_incentives as ui on ui.id = changed.user_incentive_id
    where reward.id is null
    or ui.user_id is distinct from changed.user_id
  ) then
    raise exception 'A won reward names a reward of the catalogue, and the member of its user incentive.'
      using errcode = 'IN006';
  end if;
  perform app.mark_stale(array(select user_id from changed));
  return null;
end
$$;
comment on function app.tg_user_rewards__mark_stale() is
  'Marks members whose rewards were changed by hand, after checking what such a reward names.';

create trigger _700_mark_stale_on_insert after insert on app.user_rewards
  referencing new table as changed
  for each statement when (current_setting('incentives.applying_verdicts', true) is distinct from 'on')
  execute function app.tg_user_rewards__mark_stale();
create trigger _700_mark_stale_on_update after update on app.user_rewards
  referencing new table as changed
  for each statement execute function app.tg_user_rewards__mark_stale();
create trigger _700_mark_stale_on_delete after delete on app.user_rewards
  referencing old table as changed
  for each statement execute function app.tg_user_rewards__mark_stale();

create function cache.refresh_lock() returns bigint language sql immutable return 7401000003;
comment on function cache.refresh_lock() is 'Advisory lock held by the refresh that is running.';

-- A procedure, because it takes two transactions: a mark may go only once the snapshot that saw its change is there for
-- everybody. Neither `security definer` nor `set` is allowed here, so every name is qualified; run it as the owner.
create procedure cache.refresh() language plpgsql as $$
declare
  taken pg_catalog.pg_snapshot;
  taken_at timestamptz;
  rows_of_incentives bigint;
  rows_of_rewards bigint;
begin
  commit;
  set transaction isolation level repeatable read;
  if not pg_catalog.pg_try_advisory_xact_lock(cache.refresh_lock()) then
    raise notice 'Another refresh is running; this one leaves it to that.';
    return;
  end if;
  taken := pg_catalog.pg_current_snapshot();
  taken_at := pg_catalog.clock_timestamp();
  refresh materialized view concurrently cache.user_incentives;
  refresh materialized view concurrently cache.user_rewards;
  select pg_catalog.count(*) into rows_of_incentives from cache.user_incentives;
  select pg_catalog.count(*) into rows_of_rewards from cache.user_rewards;
  insert into cache.refreshes (taken_at, took, user_incentives, user_rewards)
  values (taken_at, pg_catalog.clock_timestamp() - taken_at, rows_of_incentives, rows_of_rewards);
  delete from cache.refreshes where id <= (select pg_catalog.max(id) - 100 from cache.refreshes);
  commit;

  -- A change that committed while the refresh ran is not in its snapshot, and its mark stays.
  delete from cache.stale_users where pg_catalog.pg_visible_in_snapshot(changed_in, taken);
  commit;
end
$$;
comment on procedure cache.refresh() is 'Takes a new snapshot of both views. Writers and readers are not blocked. call cache.refresh();';
