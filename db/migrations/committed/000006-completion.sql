--! Previous: sha1:89fed87c56cdbefc939ebadeb2fd4208cb5afa92
--! Hash: sha1:c452471fb9b796f8cc77c57d6ada059a974d370a
--! Message: completion

-- Stage 6, event and reward: recorded in the transaction in which the status became completed, so that no member is ever seen
-- completed without them, however the completion came about: by app.apply_verdicts for a whole batch, by a trigger otherwise. Stages 7 and 8, announce and listeners: a NOTIFY
-- as a wake-up, and one job per active listener and thousand events.

-- No user_id and no foreign key, both on purpose: the record that something was completed outlives the row, which a member may
-- ask to be erased; and each check would cost a completion about as much as writing its event.
create table app.incentive_events (
  id bigint generated always as identity primary key,
  user_incentive_id bigint not null
    constraint an_incentive_is_completed_once unique,
  incentive_id integer not null,
  occurred_at timestamptz not null default now()
);
comment on table app.incentive_events is 'IncentiveCompleted, one row a completion. Append-only.';

create trigger _200_forbid_change before update or delete on app.incentive_events
  for each statement execute function app.tg__forbid('events are append-only; leave them as they are');
create trigger _200_forbid_truncate before truncate on app.incentive_events
  for each statement execute function app.tg__forbid('events are append-only; leave them as they are');

alter table app.incentive_events enable row level security;

-- amount and unit are copied: what was won is what was promised then, whatever the catalogue says later.
create table app.user_rewards (
  id bigint generated always as identity primary key,
  user_id text not null,
  user_incentive_id bigint not null
    constraint a_reward_is_won_by_a_user_incentive references app.user_incentives on delete restrict,
  -- No foreign key: every completion at once would lock the one row of its reward. Rewards are never deleted, a completion takes
  -- them from the catalogue, and what is written by hand is checked by a trigger (cache).
  reward_id integer not null,
  amount numeric(12, 2) not null,
  unit text not null,
  won_at timestamptz not null default now(),
  constraint a_reward_is_won_once unique (user_incentive_id, reward_id)
);
comment on table app.user_rewards is 'What a member has won. Money: at most one row per completion and reward.';

create trigger _200_forbid_truncate before truncate on app.user_rewards
  for each statement execute function app.tg__forbid('delete the rows instead, so that the cache hears of it');

alter table app.user_rewards enable row level security;

create function app.record_completions(completed bigint[]) returns void
  language sql volatile set search_path = '' as $$
  with recorded as (
    insert into app.incentive_events (user_incentive_id, incentive_id)
    select id, incentive_id
    from app.user_incentives
    where id = any (completed)
    order by id
    on conflict on constraint an_incentive_is_completed_once do nothing
    returning user_incentive_id, incentive_id
  )
  -- From what was recorded, not from what was completed: completed again after a correction by hand is not paid again.
  insert into app.user_rewards (user_id, user_incentive_id, reward_id, amount, unit)
  select ui.user_id, ui.id, reward.id, reward.amount, reward.unit
  from recorded
  join app.user_incentives as ui on ui.id = recorded.user_incentive_id
  join app.incentive_rewards on incentive_rewards.incentive_id = recorded.incentive_id
  join app.rewards as reward on reward.id = incentive_rewards.reward_id
  on conflict on constraint a_reward_is_won_once do nothing
$$;
comment on function app.record_completions(bigint[]) is 'Writes the event and the rewards of each completed row, once.';

create function app.tg_incentive_events__announce() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  first_id bigint;
  last_id bigint;
begin
  select min(id), max(id) into first_id, last_id from recorded;
  if first_id is null then
    return null;
  end if;

  -- A wake-up, never the truth: whoever hears it reads the table. Its size does not grow with the batch.
  perform pg_notify('incentive_completed', json_build_object('first', first_id, 'last', last_id)::text);

  perform graphile_worker.add_jobs(array(
    select row(
      'deliver_incentive_completed',
      json_agg(json_build_object('listener', listener.name, 'event_id', event.id::text) order by event.id),
      -- One job of a listener at a time: a slow one never takes all the slots that judging needs too.
      'deliver_to_' || listener.name,
      null, null, null, null, null
    )::graphile_worker.job_spec
    from app.incentive_listeners as listener
    cross join (select id, (row_number() over (order by id) - 1) / 1000 as thousand from recorded) as event
    where listener.is_active
    group by listener.name, event.thousand
  ));
  return null;
end
$$;
comment on function app.tg_incentive_events__announce() is 'NOTIFY incentive_completed, and a delivery job per active listener and thousand events.';

create trigger _900_announce after insert on app.incentive_events
  referencing new table as recorded
  for each statement execute function app.tg_incentive_events__announce();
