--! Previous: sha1:2d0e7d0d9f62cdaf81d91f1679f9fa688161f416
--! Hash: sha1:0f9186d5beac5f143b8682badb6d2c26450101b2
--! Message: operators

-- Operators: who looks after the catalogue. They read it, its history, programme totals and the state of jobs; and they change
-- it. Of members they read nothing: no view of a member's is granted to them, and their session names no member that such a
-- view could filter by. The one way past that, api.look_up_member, is granted to nobody (see there).
--
-- Every change of the catalogue is kept, whoever made it and however: it decides who is paid what. So it is a trigger on the
-- tables that keeps it, not the API, and the tables refuse truncate, which triggers for rows do not see.

create table app.catalogue_changes (
  id bigint generated always as identity primary key,
  changed_at timestamptz not null default now(),
  changed_by text not null,
  through text not null
    constraint a_catalogue_change_came_through_the_api_or_the_database check (through in ('api', 'database')),
  kind text not null,
  change text not null
    constraint a_catalogue_change_inserts_updates_or_deletes check (change in ('insert', 'update', 'delete')),
  key text,
  before jsonb,
  after jsonb
);
comment on table app.catalogue_changes is 'Who changed what in the catalogue, and when. Append-only.';
comment on column app.catalogue_changes.changed_by is 'The operator (sub), or the role that was logged in to the database.';
comment on column app.catalogue_changes.kind is 'The table.';
comment on column app.catalogue_changes.key is 'The key of the incentive or reward, or the listener''s name.';
create trigger _200_forbid_change before update or delete on app.catalogue_changes
  for each statement execute function app.tg__forbid('changes are append-only; leave them as they are');
create trigger _200_forbid_truncate before truncate on app.catalogue_changes
  for each statement execute function app.tg__forbid('changes are append-only; leave them as they are');

create function app.tg__record_catalogue_change() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  operator_id constant text := nullif(current_setting('incentives.operator_id', true), '');
  before constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  after constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  its_row constant jsonb := coalesce(after, before);
begin
  if before = after then
    return null;
  end if;
  insert into app.catalogue_changes (changed_by, through, kind, change, key, before, after)
  values (
    coalesce(operator_id, session_user),
    case when operator_id is null then 'database' else 'api' end,
    tg_table_name,
    lower(tg_op),
    coalesce(
      its_row ->> 'key',
      its_row ->> 'name',
      (select incentive.key from app.incentives as incentive where incentive.id = (its_row ->> 'incentive_id')::integer)
    ),
    before,
    after
  );
  return null;
end
$$;
comment on function app.tg__record_catalogue_change() is 'Keeps each change of a row of the catalogue, with who made it.';

create trigger _600_record_change after insert or update or delete on app.incentives
  for each row execute function app.tg__record_catalogue_change();
create trigger _600_record_change after insert or update or delete on app.rewards
  for each row execute function app.tg__record_catalogue_change();
create trigger _600_record_change after insert or update or delete on app.incentive_rewards
  for each row execute function app.tg__record_catalogue_change();
create trigger _600_record_change after insert or update or delete on app.incentive_listeners
  for each row execute function app.tg__record_catalogue_change();
create trigger _200_forbid_truncate before truncate on app.incentives
  for each statement execute function app.tg__forbid('delete the rows instead, so that the change is kept');
create trigger _200_forbid_truncate before truncate on app.incentive_rewards
  for each statement execute function app.tg__forbid('delete the rows instead, so that the change is kept');
create trigger _200_forbid_truncate before truncate on app.incentive_listeners
  for each statement execute function app.tg__forbid('delete the rows instead, so that the change is kept');

-- What operators read.

create view api.catalogue_changes with (security_barrier) as
select id, changed_at, changed_by, through, kind, change, key, before, after
from app.catalogue_changes;
comment on view api.catalogue_changes is E'@primaryKey id\nFor operators: who changed what in the catalogue, and when.';
comment on column api.catalogue_changes.changed_at is '@notNull';
comment on column api.catalogue_changes.changed_by is E'@notNull\nThe operator, or the role that was logged in to the database.';
comment on column api.catalogue_changes.through is E'@notNull\n`api` or `database`.';
comment on column api.catalogue_changes.kind is E'@notNull\n`incentives`, `rewards`, `incentive_rewards` or `incentive_listeners`.';
comment on column api.catalogue_changes.change is E'@notNull\n`insert`, `update` or `delete`.';
comment on column api.catalogue_changes.key is 'The key of the incentive or reward, or the listener''s name.';

create view api.incentive_listeners with (security_barrier) as
select name, is_active
from app.incentive_listeners;
comment on view api.incentive_listeners is E'@primaryKey name\nFor operators: who is told when an incentive is completed.';
comment on column api.incentive_listeners.is_active is '@notNull';

-- Others may use the same queue for jobs of their own, of which nothing is known: so of any job, only what is an id by its name
-- and form, and of its error only words that name a class or a code.
create function app.read_jobs()
  returns table (
    id bigint, task text, ids jsonb, entries integer, run_at timestamptz, attempts integer, max_attempts integer, state text, error text
  )
  language sql stable security definer set search_path = '' as $$
  select job.id, job.task_identifier,
    (
      select coalesce(jsonb_object_agg(field.name, field.value), '{}')
      from jsonb_each_text(
        case jsonb_typeof(payload.first) when 'object' then payload.first else '{}' end
      ) as field (name, value)
      where field.name in ('incentive_id', 'user_incentive_id', 'event_id', 'id') and field.value ~ '^\d{1,19}$'
      or field.name = 'listener' and field.value ~ '^[a-z][a-z0-9_]{0,62}$'
    ),
    payload.entries,
    job.run_at, job.attempts, job.max_attempts,
    case
      when job.locked_at is not null then 'running'
      when job.attempts >= job.max_attempts then 'parked'
      when job.attempts > 0 then 'retrying'
      when job.run_at > now() then 'scheduled'
      else 'waiting'
    end,
    substring(job.last_error from '^(?:connection lost: )?(?:[A-Z]\w{0,49}Error|Error|error)(?: [A-Z0-9_]{1,50})?\M')
  from graphile_worker.jobs as job
  join graphile_worker._private_jobs as private on private.id = job.id
  cross join lateral (
    select
      case jsonb_typeof(private.payload::jsonb) when 'array' then private.payload::jsonb -> 0 else private.payload::jsonb end,
      case jsonb_typeof(private.payload::jsonb) when 'array' then jsonb_array_length(private.payload::jsonb) end
  ) as payload (first, entries)
$$;
comment on function app.read_jobs() is 'The rows of api.jobs.';

create view api.jobs with (security_barrier) as
select id, task, ids, entries, run_at, attempts, max_attempts, state, error
from app.read_jobs();
comment on view api.jobs is E'@primaryKey id\nFor operators: what the worker has to do. Ids only.';
comment on column api.jobs.task is '@notNull';
comment on column api.jobs.ids is E'@notNull\nWhat it is about, as far as that is ids; of several, the first.';
comment on column api.jobs.entries is 'How many it is about, when there may be several.';
comment on column api.jobs.run_at is E'@notNull\nNot before this.';
comment on column api.jobs.attempts is '@notNull';
comment on column api.jobs.max_attempts is '@notNull';
comment on column api.jobs.state is E'@notNull\n`waiting`, `scheduled`, `running`, `retrying`, or `parked`: it failed for good and waits for somebody.';
comment on column api.jobs.error is 'The class of what the last attempt failed with.';

grant execute on function app.read_jobs() to incentives_operator;
grant select on api.catalogue_changes, api.incentive_listeners, api.jobs to incentives_operator;

-- What operators write. The API has checked criteria by their evaluator's schema, which the database does not know; so these are
-- for the API alone, which PostGraphile shows as mutations of its own.

create function api.lock_incentive(key text) returns jsonb
  language sql volatile security definer set search_path = '' as $$
  select to_jsonb(incentive)
  from app.incentives as incentive
  where incentive.key = lock_incentive.key
  for update
$$;
comment on function api.lock_incentive(text) is
  E'@behavior -*\nAn incentive as it is, which nobody else changes until this transaction ends: what is checked is what is written.';

create function api.create_incentive(incentive jsonb) returns integer
  language sql volatile security definer set search_path = '' as $$
  insert into app.incentives (key, name, description, evaluator, records, criteria, is_active, starts_at, ends_at)
  select key, name, description, evaluator, records, criteria, is_active, starts_at, ends_at
  from jsonb_populate_record(null::app.incentives, create_incentive.incentive)
  returning id
$$;
comment on function api.create_incentive(jsonb) is E'@behavior -*\nA new incentive, whole. Returns its id.';

create function api.update_incentive(incentive jsonb) returns integer
  language sql volatile security definer set search_path = '' as $$
  update app.incentives as target
  set name = given.name, description = given.description, evaluator = given.evaluator, criteria = given.criteria,
    is_active = given.is_active, starts_at = given.starts_at, ends_at = given.ends_at
  from jsonb_populate_record(null::app.incentives, update_incentive.incentive) as given
  where target.key = given.key
  returning target.id
$$;
comment on function api.update_incentive(jsonb) is
  E'@behavior -*\nAn incentive, whole, in place of what it is; its key and what it records stay. Returns its id.';

create function api.create_reward(reward jsonb) returns integer
  language sql volatile security definer set search_path = '' as $$
  insert into app.rewards (key, name, kind, amount, unit)
  select key, name, kind, amount, unit
  from jsonb_populate_record(null::app.rewards, create_reward.reward)
  returning id
$$;
comment on function api.create_reward(jsonb) is E'@behavior -*\nA new reward, whole. Returns its id.';

create function api.update_reward(changes jsonb) returns integer
  language sql volatile security definer set search_path = '' as $$
  update app.rewards as target
  set name = coalesce(given.name, target.name), kind = coalesce(given.kind, target.kind),
    amount = coalesce(given.amount, target.amount), unit = coalesce(given.unit, target.unit)
  from jsonb_populate_record(null::app.rewards, update_reward.changes) as given
  where target.key = given.key
  returning target.id
$$;
comment on function api.update_reward(jsonb) is
  E'@behavior -*\nWhat is given of a reward in place of what it was. What somebody has won stays as it was won. Returns its id.';

create function api.set_incentive_rewards(incentive_id integer, rewards text[]) returns void
  language plpgsql volatile security definer set search_path = '' as $$
begin
  delete from app.incentive_rewards as pays
  using app.rewards as reward
  where pays.incentive_id = set_incentive_rewards.incentive_id
  and reward.id = pays.reward_id
  and reward.key <> all (set_incentive_rewards.rewards);
  insert into app.incentive_rewards (incentive_id, reward_id)
  select set_incentive_rewards.incentive_id, reward.id
  from app.rewards as reward
  where reward.key = any (set_incentive_rewards.rewards)
  on conflict do nothing;
end
$$;
comment on function api.set_incentive_rewards(integer, text[]) is
  E'@behavior -*\nCompleting this incentive wins these rewards (keys) from now on, and no others.';

create function api.set_listener_active(name text, is_active boolean) returns boolean
  language sql volatile security definer set search_path = '' as $$
  update app.incentive_listeners as listener
  set is_active = set_listener_active.is_active
  where listener.name = set_listener_active.name
  returning true
$$;
comment on function api.set_listener_active(text, boolean) is
  E'@behavior -*\nWhether this listener is told of completions from now on. Returns nothing when there is none of this name.';

grant execute on function api.lock_incentive(text), api.create_incentive(jsonb), api.update_incentive(jsonb),
  api.create_reward(jsonb), api.update_reward(jsonb), api.set_incentive_rewards(integer, text[]),
  api.set_listener_active(text, boolean) to incentives_operator;

-- The second grant. Whoever answers for members' data may decide that operators see what one member did, when that member asks
-- for help: `grant execute on function api.look_up_member(text, text) to incentives_operator`, and the API started anew. Then
-- GraphQL has a mutation lookUpMember, and each use of it is kept. Revoking it takes it away again.

create table app.member_lookups (
  id bigint generated always as identity primary key,
  looked_up_at timestamptz not null default now(),
  operator_id text not null,
  user_id text not null,
  reason text not null constraint a_member_lookup_has_a_reason check (reason ~ '\S' and length(reason) <= 1000)
);
comment on table app.member_lookups is 'Which operator looked at which member''s data, when and why. Append-only.';
create trigger _200_forbid_change before update or delete on app.member_lookups
  for each statement execute function app.tg__forbid('lookups are append-only; leave them as they are');
create trigger _200_forbid_truncate before truncate on app.member_lookups
  for each statement execute function app.tg__forbid('lookups are append-only; leave them as they are');
alter table app.member_lookups enable row level security;

create function api.look_up_member(user_id text, reason text) returns setof api.user_incentives
  language plpgsql volatile security definer set search_path = '' as $$
declare
  operator_id constant text := nullif(current_setting('incentives.operator_id', true), '');
begin
  if operator_id is null then
    raise exception 'Only an operator looks up a member.' using errcode = 'insufficient_privilege';
  end if;
  insert into app.member_lookups (operator_id, user_id, reason)
  values (operator_id, look_up_member.user_id, look_up_member.reason);
  perform set_config('incentives.user_id', look_up_member.user_id, true);
  return query select * from api.user_incentives;
  perform set_config('incentives.user_id', '', true);
end
$$;
comment on function api.look_up_member(text, text) is
  E'@resultFieldName userIncentives\nFor operators, if granted: what one member did. Kept, with the reason.';
-- Granted to nobody, on purpose: see above.
