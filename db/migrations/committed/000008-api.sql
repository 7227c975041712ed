--! Previous: sha1:18f55c3558124f1dc9908afc1f0a8cbe7ec7c5d9
--! Hash: sha1:88f7e5acef42f2a2b3e121051b83b6359bd61ec0
--! Message: api

-- Stage 10, api: what a client reads and the one thing it writes. Every view filters by the member whose token the request
-- carries (the setting incentives.user_id); `security_barrier` keeps a client's own conditions from running before that.
-- The views run with their owner's rights, so a member needs no grant on the tables behind them, and has none.

create view app.current_member as
select
  me.user_id,
  exists (select from cache.stale_users as stale where stale.user_id = me.user_id)
  or exists (
    select from app.user_incentives as ui
    where ui.user_id = me.user_id
    and ui.evaluation_due
  ) as is_live
from (select nullif(current_setting('incentives.user_id', true), '') as user_id) as me;
comment on view app.current_member is 'The member of this request, and whether the snapshot is too old for them.';

create view api.incentives with (security_barrier) as
select id, key, name, description, evaluator, records, criteria, is_active, starts_at, ends_at
from app.incentives;
comment on view api.incentives is E'@primaryKey id\n@unique key\nWhat a programme asks of its members.';
comment on column api.incentives.key is E'@notNull\nWhat to call it in recordIncentive.';
comment on column api.incentives.name is '@notNull';
comment on column api.incentives.description is '@notNull';
comment on column api.incentives.evaluator is E'@notNull\nIts kind: which form `data` and `criteria` have.';
comment on column api.incentives.records is E'@notNull\nA `document` is replaced when recorded again; a `log` grows by entries.';
comment on column api.incentives.criteria is E'@notNull\nWhat it asks for, in the form of its kind.';
comment on column api.incentives.is_active is E'@notNull\nSwitched off, it completes nobody.';
comment on column api.incentives.starts_at is 'Before this it completes nobody.';
comment on column api.incentives.ends_at is 'From then on it completes nobody.';

create view api.rewards with (security_barrier) as
select id, key, name, kind, amount, unit
from app.rewards;
comment on view api.rewards is E'@primaryKey id\n@unique key\nWhat can be won.';
comment on column api.rewards.key is '@notNull';
comment on column api.rewards.name is '@notNull';
comment on column api.rewards.kind is '@notNull';
comment on column api.rewards.amount is E'@notNull\nHow much of `unit` it pays now; what somebody won stands in their user reward.';
comment on column api.rewards.unit is '@notNull';

create view api.incentive_rewards with (security_barrier) as
select incentive_id, reward_id
from app.incentive_rewards;
comment on view api.incentive_rewards is E'@primaryKey incentive_id,reward_id\n@foreignKey (incentive_id) references api.incentives (id)|@fieldName incentive|@foreignFieldName incentiveRewards\n@foreignKey (reward_id) references api.rewards (id)|@fieldName reward|@foreignFieldName incentiveRewards\nWhat completing an incentive wins.';

create view api.user_incentives with (security_barrier) as
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
comment on view api.user_incentives is E'@primaryKey id\n@foreignKey (incentive_id) references api.incentives (id)|@fieldName incentive|@foreignFieldName userIncentives\nWhat this member did, and what came of it.';
comment on column api.user_incentives.incentive_id is '@notNull';
comment on column api.user_incentives.status is E'@notNull\n`in_progress`, `completed` or `invalid`.';
comment on column api.user_incentives.progress is E'@notNull\nFrom 0 to 1.';
comment on column api.user_incentives.data is E'@notNull\nWhat the member recorded.';
comment on column api.user_incentives.explanation is E'@notNull\nFor each condition: what was needed, what counted, what was ignored and why.';
comment on column api.user_incentives.created_at is '@notNull';
comment on column api.user_incentives.updated_at is '@notNull';

create view api.user_rewards with (security_barrier) as
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
comment on view api.user_rewards is E'@primaryKey id\n@foreignKey (user_incentive_id) references api.user_incentives (id)|@fieldName userIncentive|@foreignFieldName userRewards\n@foreignKey (incentive_id) references api.incentives (id)|@fieldName incentive|@foreignFieldName userRewards\n@foreignKey (reward_id) references api.rewards (id)|@fieldName reward|@foreignFieldName userRewards\nWhat this member has won.';
comment on column api.user_rewards.user_incentive_id is '@notNull';
comment on column api.user_rewards.incentive_id is '@notNull';
comment on column api.user_rewards.reward_id is '@notNull';
comment on column api.user_rewards.amount is E'@notNull\nHow much of `unit` was won.';
comment on column api.user_rewards.unit is '@notNull';
comment on column api.user_rewards.won_at is '@notNull';

grant select on api.incentives, api.rewards, api.incentive_rewards to incentives_member, incentives_operator;
-- Not to the operator: what a member did and won is the member's own.
grant select on api.user_incentives, api.user_rewards to incentives_member;

create function api.record_incentive(incentive text, data jsonb) returns api.user_incentives
  language plpgsql volatile security definer set search_path = '' as $$
declare
  entries_at_most constant integer := 5000;
  member_id text := nullif(current_setting('incentives.user_id', true), '');
  target app.incentives;
  recorded app.user_incentives;
  answer api.user_incentives;
begin
  if member_id is null then
    raise exception 'Nobody is recording: the request carries no member.' using errcode = 'IN005';
  end if;
  select * into target from app.incentives where key = record_incentive.incentive;
  if not found then
    raise exception 'There is no such incentive.' using errcode = 'IN002';
  end if;
  if record_incentive.data is null then
    raise exception 'There is nothing to record.' using errcode = 'IN004';
  end if;

  if target.records = 'log' then
    -- One entry, or several.
    if jsonb_typeof(record_incentive.data) <> 'array' then
      record_incentive.data := jsonb_build_array(record_incentive.data);
    end if;
    insert into app.user_incentives as ui (user_id, incentive_id, data)
    values (member_id, target.id, record_incentive.data)
    on conflict on constraint a_member_has_one_row_per_incentive do update
    set data = ui.data || excluded.data
    returning * into recorded;
    if jsonb_array_length(recorded.data) > entries_at_most then
      raise exception 'This log would have more than % entries.', entries_at_most using errcode = 'IN003';
    end if;
  else
    insert into app.user_incentives as ui (user_id, incentive_id, data)
    values (member_id, target.id, record_incentive.data)
    on conflict on constraint a_member_has_one_row_per_incentive do update
    set data = excluded.data
    returning * into recorded;
  end if;

  select * into strict answer from api.user_incentives where id = recorded.id;
  return answer;
end
$$;
comment on function api.record_incentive(text, jsonb) is E'@resultFieldName userIncentive\nRecords what the member did. A document replaces the one before; for a log, one entry or an array of entries is added.';
grant execute on function api.record_incentive(text, jsonb) to incentives_member;
