--! Previous: sha1:475c1914d4831bc9dc32d7cd0541d3ec074b7e1e
--! Hash: sha1:a4b238119bdd299bd6f1ff3918725da7b581cd5b
--! Message: snapshot

-- The snapshot, more of it and by steps. What is computed where:
--
--   cache.user_incentives   a row as the member reads it                     live: app.user_incentives, by member
--   cache.user_rewards      the same, with its incentive                     live: app.user_rewards, by the member's rows
--   cache.user_summaries    a member's counts, and what they won by unit     live: the same sums over the member's rows
--   cache.incentive_totals  counts of an incentive by status, for operators  never live: it is as old as the snapshot
--
-- Who is live is decided in one place (app.current_member) by the same statement that reads, so both are of one moment: a
-- member with a mark or a due row reads the tables, everybody else the snapshot, and the answer is the same rows.
--
-- A refresh is not one transaction any more. Two million rows take it minutes, and a transaction of minutes keeps vacuum from
-- every row that died meanwhile, in all tables. Each view has a transaction of its own now; what holds them together are the
-- marks, which go only when all views are done, and only those that the snapshot noted before the first view saw. A member
-- without a mark has not changed since the refresh before, so for them the old and the new form of each view are the same.
--
-- A mark under the name of nobody (cache.everybody) has everybody served live. It makes a cleared cache safe: it comes before
-- the rows go, and goes after they are there again, by the very rule that all marks follow.

create function cache.everybody() returns text language sql immutable return '';
comment on function cache.everybody() is
  'Stands in cache.stale_users for all members at once; no member is called so (a_user_id_has_1_to_255_characters).';
create function cache.until_built() returns xid8 language sql immutable return '18446744073709551615'::xid8;
comment on function cache.until_built() is 'A transaction that no snapshot ever sees: the mark of a cleared cache, which no refresh takes away.';

alter table cache.stale_users add column live_since timestamptz not null default now();
comment on column cache.stale_users.changed_at is 'When they changed last.';
comment on column cache.stale_users.live_since is 'When they changed first, of what the snapshot lacks.';

-- One that was killed leaves took empty; the next one deletes it.
alter table cache.refreshes
  alter column took drop not null,
  drop column user_incentives,
  drop column user_rewards;
comment on table cache.refreshes is 'When each of the last hundred snapshots was taken, and how long it took, once it is done.';

create table cache.refresh_steps (
  refresh_id bigint not null
    constraint a_step_is_of_a_refresh references cache.refreshes on delete cascade,
  place integer not null,
  view_name text not null,
  began_at timestamptz,
  took interval,
  row_count bigint,
  primary key (refresh_id, place)
);
comment on table cache.refresh_steps is 'Each view of a refresh: what is done, what is being done, and what is to come.';

-- A function, and not a condition in the view, because of when it would be planned. While few rows are due, and few marks set,
-- reading all of them looks cheapest; then some hundred thousand become due, and until the next analyze every read of every
-- member goes through all of those (seen: 207 ms instead of 0.3). So: the marks always by their index; and a member's due rows
-- from among their own rows, which the coalesce is for, as no plan can then take the index of what is due.
--
-- The views call it with the rights of whoever reads, so a member may execute it. They cannot name it: they have no usage on
-- the schema.
create function app.is_live(user_id text) returns boolean
  language plpgsql stable security definer
  set search_path = ''
  set enable_seqscan = off
as $$
begin
  return exists (
    select from cache.stale_users as stale
    where stale.user_id in (is_live.user_id, cache.everybody())
  )
  or exists (
    select from app.user_incentives as ui
    where ui.user_id = is_live.user_id
    and coalesce(ui.evaluation_due, true)
  );
end
$$;
comment on function app.is_live(text) is 'Whether the snapshot is too old for this member: they have a mark, or a due row.';
grant execute on function app.is_live(text) to incentives_member;

create or replace view app.current_member as
select me.user_id, app.is_live(me.user_id) as is_live
from (select nullif(current_setting('incentives.user_id', true), '') as user_id) as me;

-- The views over a member's rows can be made empty (cache.clear), which PostgreSQL has no other way for that readers would
-- not notice: truncate is refused, and `with no data` makes every read fail.
create function cache.keeps_rows() returns boolean
  language sql stable set search_path = '' as $$
  select current_setting('incentives.clearing_cache', true) is distinct from 'on'
$$;
comment on function cache.keeps_rows() is 'False only while cache.clear() refreshes: asked once by each refresh of a view, not once a row.';

-- The two views there are must be made anew to ask that. They are made empty, so that no upgrade waits for their rows, and the
-- next refresh fills them; until then everybody is live.
create or replace view api.user_incentives with (security_barrier) as
select ui.id, ui.incentive_id, ui.status, ui.progress, ui.data, ui.explanation,
  ui.completed_at, ui.created_at, ui.updated_at
from app.current_member as member
join app.user_incentives as ui on ui.user_id = member.user_id;
create or replace view api.user_rewards with (security_barrier) as
select ur.id, ur.user_incentive_id, ui.incentive_id, ur.reward_id, ur.amount, ur.unit, ur.won_at
from app.current_member as member
join app.user_incentives as ui on ui.user_id = member.user_id
join app.user_rewards as ur on ur.user_incentive_id = ui.id;
drop materialized view cache.user_incentives;
drop materialized view cache.user_rewards;

select set_config('incentives.clearing_cache', 'on', true);
insert into cache.stale_users (user_id, changed_in)
select cache.everybody(), pg_current_xact_id()
where exists (select from app.user_incentives);

create materialized view cache.user_incentives as
select id, user_id, incentive_id, data, status, progress, explanation, completed_at, created_at, updated_at
from app.user_incentives
where cache.keeps_rows();
-- Unique: what `refresh materialized view concurrently` needs. By user: what a member reads by.
create unique index user_incentives_key on cache.user_incentives (id);
create index user_incentives_by_user on cache.user_incentives (user_id);
comment on materialized view cache.user_incentives is 'app.user_incentives as it was at the last refresh.';

create materialized view cache.user_rewards as
select ur.id, ur.user_id, ur.user_incentive_id, ui.incentive_id, ur.reward_id, ur.amount, ur.unit, ur.won_at
from app.user_rewards as ur
join app.user_incentives as ui on ui.id = ur.user_incentive_id
where cache.keeps_rows();
create unique index user_rewards_key on cache.user_rewards (id);
create index user_rewards_by_user on cache.user_rewards (user_id);
comment on materialized view cache.user_rewards is 'app.user_rewards as it was at the last refresh.';

-- Grouped by unit first: points and dollars do not add up.
create materialized view cache.user_summaries as
select ui.user_id, ui.incentives, ui.in_progress, ui.completed, ui.invalid,
  coalesce(won.winnings, '[]') as winnings,
  greatest(ui.last_changed_at, won.last_won_at) as last_changed_at
from (
  select user_id,
    count(*)::integer as incentives,
    (count(*) filter (where status = 'in_progress'))::integer as in_progress,
    (count(*) filter (where status = 'completed'))::integer as completed,
    (count(*) filter (where status = 'invalid'))::integer as invalid,
    max(updated_at) as last_changed_at
  from app.user_incentives
  where cache.keeps_rows()
  group by user_id
) as ui
left join (
  select user_id,
    jsonb_agg(jsonb_build_object('unit', unit, 'amount', amount, 'rewards', rewards) order by unit) as winnings,
    max(last_won_at) as last_won_at
  from (
    select user_id, unit, sum(amount) as amount, count(*) as rewards, max(won_at) as last_won_at
    from app.user_rewards
    where cache.keeps_rows()
    group by user_id, unit
  ) as by_unit
  group by user_id
) as won on won.user_id = ui.user_id;
-- Serves both, the refresh and the member's read.
create unique index user_summaries_key on cache.user_summaries (user_id);
comment on materialized view cache.user_summaries is 'What each member did and won, in sums, as it was at the last refresh.';

-- True counts, however small: the view of api is what leaves out those that could single somebody out.
create materialized view cache.incentive_totals as
select incentive_id,
  count(*)::integer as members,
  (count(*) filter (where status = 'in_progress'))::integer as in_progress,
  (count(*) filter (where status = 'completed'))::integer as completed,
  (count(*) filter (where status = 'invalid'))::integer as invalid
from app.user_incentives
where cache.keeps_rows()
group by incentive_id;
create unique index incentive_totals_key on cache.incentive_totals (incentive_id);
comment on materialized view cache.incentive_totals is 'How many members each incentive has, by status, as it was at the last refresh.';

select set_config('incentives.clearing_cache', 'off', true);

create or replace view api.user_incentives with (security_barrier) as
select ui.id, ui.incentive_id, ui.status, ui.progress, ui.data, ui.explanation,
  ui.completed_at, ui.created_at, ui.updated_at
from app.current_member as member
join app.user_incentives as ui on ui.user_id = member.user_id
where member.is_live
union all
select ui.id, ui.incentive_id, ui.status, ui.progress, ui.data, ui.explanation,
  ui.completed_at, ui.created_at, ui.updated_at
from app.current_member as member
join cache.user_incentives as ui on ui.user_id = member.user_id
where not member.is_live;

create or replace view api.user_rewards with (security_barrier) as
select ur.id, ur.user_incentive_id, ui.incentive_id, ur.reward_id, ur.amount, ur.unit, ur.won_at
from app.current_member as member
join app.user_incentives as ui on ui.user_id = member.user_id
join app.user_rewards as ur on ur.user_incentive_id = ui.id
where member.is_live
union all
select ur.id, ur.user_incentive_id, ur.incentive_id, ur.reward_id, ur.amount, ur.unit, ur.won_at
from app.current_member as member
join cache.user_rewards as ur on ur.user_id = member.user_id
where not member.is_live;

-- Always one row for a member, of zeros for one who has not begun.
create view api.user_summaries with (security_barrier) as
select ui.incentives, ui.in_progress, ui.completed, ui.invalid,
  coalesce(won.winnings, '[]') as winnings,
  greatest(ui.last_changed_at, won.last_won_at) as last_changed_at
from app.current_member as member
cross join lateral (
  select
    count(*)::integer as incentives,
    (count(*) filter (where status = 'in_progress'))::integer as in_progress,
    (count(*) filter (where status = 'completed'))::integer as completed,
    (count(*) filter (where status = 'invalid'))::integer as invalid,
    max(updated_at) as last_changed_at
  from app.user_incentives
  where user_id = member.user_id
) as ui
cross join lateral (
  select
    jsonb_agg(jsonb_build_object('unit', unit, 'amount', amount, 'rewards', rewards) order by unit) as winnings,
    max(last_won_at) as last_won_at
  from (
    select ur.unit, sum(ur.amount) as amount, count(*) as rewards, max(ur.won_at) as last_won_at
    from app.user_incentives as mine
    join app.user_rewards as ur on ur.user_incentive_id = mine.id
    where mine.user_id = member.user_id
    group by ur.unit
  ) as by_unit
) as won
where member.is_live
union all
select coalesce(summary.incentives, 0), coalesce(summary.in_progress, 0), coalesce(summary.completed, 0),
  coalesce(summary.invalid, 0), coalesce(summary.winnings, '[]'), summary.last_changed_at
from app.current_member as member
left join cache.user_summaries as summary on summary.user_id = member.user_id
where member.user_id is not null
and not member.is_live;
comment on view api.user_summaries is E'@behavior -query:resource:list -query:resource:connection\nWhat this member did and won, in sums.';
comment on column api.user_summaries.incentives is E'@notNull\nHow many this member has begun.';
comment on column api.user_summaries.in_progress is '@notNull';
comment on column api.user_summaries.completed is '@notNull';
comment on column api.user_summaries.invalid is '@notNull';
comment on column api.user_summaries.winnings is E'@notNull\nFor each unit, as [{"unit": "points", "amount": 200, "rewards": 2}].';
comment on column api.user_summaries.last_changed_at is 'When an incentive or a reward of this member changed last; none when there are none.';

create function api.user_summary() returns api.user_summaries
  language sql stable set search_path = '' as $$
  select summary from api.user_summaries as summary
$$;
comment on function api.user_summary() is 'What this member did and won, in sums.';

-- A count is given when it and what it leaves of the whole are 5 or more; the finer two only when all three are. So nothing
-- that is left out is the difference of what is given: were `members` given beside all but one of its parts, that one would
-- be given too. Nor is it said of a group that all of it, or none, has completed.
create view api.incentive_totals with (security_barrier) as
select incentive.id as incentive_id,
  case when total.members >= 5 then total.members end as members,
  case
    when total.completed >= 5
    and total.members - total.completed >= 5
    then total.completed
  end as completed,
  case when least(total.in_progress, total.completed, total.invalid) >= 5 then total.in_progress end as in_progress,
  case when least(total.in_progress, total.completed, total.invalid) >= 5 then total.invalid end as invalid,
  coalesce(least(total.in_progress, total.completed, total.invalid) < 5, true) as is_suppressed
from app.incentives as incentive
left join cache.incentive_totals as total on total.incentive_id = incentive.id;
comment on view api.incentive_totals is E'@primaryKey incentive_id\n@foreignKey (incentive_id) references api.incentives (id)|@fieldName incentive|@foreignFieldName total\nHow many members an incentive has, as of the last snapshot (cacheStatus). For operators.';
comment on column api.incentive_totals.members is 'Left out under 5.';
comment on column api.incentive_totals.completed is 'Left out when fewer than 5 have, or fewer than 5 have not.';
comment on column api.incentive_totals.in_progress is 'Left out when any of the three has fewer than 5.';
comment on column api.incentive_totals.invalid is 'Left out when any of the three has fewer than 5.';
comment on column api.incentive_totals.is_suppressed is E'@notNull\nWhether a count is left out, so that nobody can be singled out by it.';

-- Anybody may ask this, so it looks at some thousand marks at the most. It names nobody ('') without cache.everybody(), which who
-- asks may not execute.
create view api.cache_statuses with (security_barrier) as
select last.taken_at,
  (extract(epoch from last.took) * 1000)::double precision as took_ms,
  everybody.changed_in is not null as everybody_is_live,
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
left join cache.stale_users as everybody on everybody.user_id = ''
cross join lateral (
  select least(count(distinct user_id), 10000)::integer as members, min(since) as since
  from (
    (
      select user_id, live_since as since
      from cache.stale_users
      where user_id <> ''
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
comment on view api.cache_statuses is E'@behavior -query:resource:list -query:resource:connection\nHow old the snapshot is, and how many members are served live because it is too old for them.';
comment on column api.cache_statuses.taken_at is 'When the snapshot was taken; none when none was yet.';
comment on column api.cache_statuses.took_ms is 'How long taking it took, in milliseconds.';
comment on column api.cache_statuses.everybody_is_live is E'@notNull\nThe cache was cleared, or is being built: all members are served live.';
comment on column api.cache_statuses.live_members is E'@notNull\nHow many changed since; 10000 stands for that or more.';
comment on column api.cache_statuses.live_since is 'Since when the one who has been served live for longest is.';

create function api.cache_status() returns api.cache_statuses
  language sql stable set search_path = '' as $$
  select status from api.cache_statuses as status
$$;
comment on function api.cache_status() is 'How old the snapshot is, and how many members are served live because it is too old for them.';

grant select on api.user_summaries to incentives_member;
grant execute on function api.user_summary() to incentives_member;
-- Not to the member: how others do is no member's business.
grant select on api.incentive_totals to incentives_operator;
grant select on api.cache_statuses to incentives_member, incentives_operator;
grant execute on function api.cache_status() to incentives_member, incentives_operator;
