--! Previous: sha1:0fd474de3ec37e34ae3d7623ec76ccec4110330f
--! Hash: sha1:6a522ce640cecc2af7fc6c8b3c456db6ee3ecfc8
--! Message: lighter verdicts

-- Stages 5 and 6 at less cost: what a completion writes, without what it need not ask.

-- A foreign key asked once more for each reward what the completion that writes it has just locked. In its place a row that
-- won something refuses to be deleted (_600_record_change), and a reward written by hand locks the row it names while it asks
-- (_700_mark_stale_on_insert), so neither can slip past the other.
alter table app.user_rewards drop constraint a_reward_is_won_by_a_user_incentive;

create or replace function app.tg_user_incentives__record_change() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  completed boolean := tg_op = 'UPDATE' and new.status = 'completed' and old.status <> 'completed';
begin
  if tg_op = 'DELETE' and exists (select from app.user_rewards where user_incentive_id = old.id) then
    raise exception 'A user incentive that won a reward stays; delete the reward first.' using errcode = 'IN001';
  end if;
  -- Marked first, because a completion is announced at once.
  if completed or tg_op = 'DELETE' or not new.evaluation_due then
    perform app.mark_stale(array[old.user_id]);
  end if;
  if completed then
    perform app.record_completions(array[new.id]);
  end if;
  return null;
end
$$;
comment on function app.tg_user_incentives__record_change() is
  'A completion by hand is recorded and rewarded; the member of a row that changed and is not due is marked stale; a row that won a reward stays.';

create or replace function app.tg_user_rewards__mark_stale() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
begin
  if tg_op <> 'DELETE' then
    perform from app.user_incentives where id in (select user_incentive_id from changed) for key share;
    if exists (
      select from changed
      left join app.rewards as reward on reward.id = changed.reward_id
      left join app.user_incentives as ui on ui.id = changed.user_incentive_id
      where reward.id is null
      or ui.user_id is distinct from changed.user_id
    ) then
      raise exception 'A won reward names a reward of the catalogue, and the member of its user incentive.'
        using errcode = 'IN006';
    end if;
  end if;
  perform app.mark_stale(array(select user_id from changed));
  return null;
end
$$;

-- The rows are locked by whoever completes them, so nobody else records them meanwhile; the unique constraints stand behind it.
-- A completed row that was recorded before, and taken back and completed again by hand, is not paid again.
create or replace function app.record_completions(completed bigint[]) returns void
  language sql volatile set search_path = '' as $$
  with won as materialized (
    select ui.id, ui.user_id, ui.incentive_id
    from app.user_incentives as ui
    where ui.id = any (completed)
    and not exists (select from app.incentive_events as event where event.user_incentive_id = ui.id)
  ),
  recorded as (
    insert into app.incentive_events (user_incentive_id, incentive_id)
    select id, incentive_id from won
  )
  insert into app.user_rewards (user_id, user_incentive_id, reward_id, amount, unit)
  select won.user_id, won.id, reward.id, reward.amount, reward.unit
  from won
  join app.incentive_rewards on incentive_rewards.incentive_id = won.incentive_id
  join app.rewards as reward on reward.id = incentive_rewards.reward_id
  where not exists (
    select from app.user_rewards as given
    where given.user_incentive_id = won.id
    and given.reward_id = reward.id
  )
$$;

create function app.wait_until_due(at_most interval) returns boolean
  language plpgsql volatile set search_path = '' as $$
declare
  bedtime constant timestamptz := clock_timestamp() + at_most;
begin
  loop
    if exists (select from app.user_incentives where evaluation_due) then
      return true;
    end if;
    if clock_timestamp() >= bedtime then
      return false;
    end if;
    perform pg_sleep(0.001);
  end loop;
end
$$;
comment on function app.wait_until_due(interval) is
  'Whether a row is due, looking every millisecond for so long: a look from here costs a twentieth of one from outside. Only in read committed.';
