--! Previous: sha1:b6247c606fedbb476382f041253d276a17200435
--! Hash: sha1:636161311cdf7ff7f0b514e771db7223fe0ee415
--! Message: catalogue

-- The catalogue: what a programme asks for, what it pays, and who is told. A handful of rows, written by operators.

create table app.incentives (
  id integer generated always as identity primary key,
  key text not null
    constraint an_incentive_key_is_unique unique
    constraint an_incentive_key_is_snake_case check (key ~ '^[a-z][a-z0-9_]{0,62}$'),
  name text not null constraint an_incentive_has_a_name check (name <> ''),
  description text not null default '',
  evaluator text not null,
  -- A document is replaced when it is recorded again; a log grows. The evaluator's schema must agree (checked at start).
  records text not null
    constraint an_incentive_records_a_document_or_a_log check (records in ('document', 'log')),
  criteria jsonb not null default '{}'
    constraint incentive_criteria_are_an_object check (jsonb_typeof(criteria) = 'object'),
  is_active boolean not null default true,
  starts_at timestamptz,
  ends_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint an_incentive_ends_after_it_starts check (ends_at > starts_at)
);
comment on table app.incentives is 'What a programme asks of its members, one row an incentive.';
comment on column app.incentives.evaluator is 'The adapter that judges it: src/evaluators/<evaluator>.ts.';
comment on column app.incentives.criteria is 'What this incentive asks for, in the form of its evaluator''s criteria schema.';

create table app.rewards (
  id integer generated always as identity primary key,
  key text not null
    constraint a_reward_key_is_unique unique
    constraint a_reward_key_is_snake_case check (key ~ '^[a-z][a-z0-9_]{0,62}$'),
  name text not null constraint a_reward_has_a_name check (name <> ''),
  kind text not null constraint a_reward_has_a_kind check (kind <> ''),
  amount numeric(12, 2) not null constraint a_reward_amount_is_not_negative check (amount >= 0),
  unit text not null constraint a_reward_has_a_unit check (unit <> ''),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table app.rewards is 'What can be won, for example 100 points or a gift card of 25 USD.';

create table app.incentive_rewards (
  incentive_id integer not null
    constraint an_incentive_reward_is_for_an_incentive references app.incentives on delete cascade,
  reward_id integer not null
    constraint an_incentive_reward_names_a_reward references app.rewards on delete restrict,
  primary key (incentive_id, reward_id)
);
-- Serves the foreign key to rewards; the primary key serves the other.
create index incentive_rewards_by_reward on app.incentive_rewards (reward_id);
comment on table app.incentive_rewards is 'What completing an incentive wins.';

create table app.incentive_listeners (
  name text primary key
    constraint a_listener_name_is_snake_case check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
  is_active boolean not null default true,
  created_at timestamptz not null default now()
);
comment on table app.incentive_listeners is
  'Who is told of a completed incentive: src/listeners/<name>.ts, while it is active.';

create function app.tg__stamp_updated_at() returns trigger
  language plpgsql volatile set search_path = '' as $$
begin
  new.updated_at := now();
  return new;
end
$$;
comment on function app.tg__stamp_updated_at() is 'Says when a row was last changed.';

create trigger _100_stamp_updated_at before update on app.incentives
  for each row when (old.* is distinct from new.*) execute function app.tg__stamp_updated_at();
create trigger _100_stamp_updated_at before update on app.rewards
  for each row when (old.* is distinct from new.*) execute function app.tg__stamp_updated_at();

create function app.tg__forbid() returns trigger
  language plpgsql volatile set search_path = '' as $$
begin
  raise exception '% on %.%: %', tg_op, tg_table_schema, tg_table_name, tg_argv[0] using errcode = 'IN001';
end
$$;
comment on function app.tg__forbid() is 'Refuses a change (IN001); the trigger''s argument says what to do instead.';

-- What somebody won must be there to be named for ever; app.user_rewards relies on it in place of a foreign key.
create trigger _200_forbid_delete before delete or truncate on app.rewards
  for each statement execute function app.tg__forbid('a reward stays; take it out of app.incentive_rewards instead');
