--! Previous: sha1:4965923bfa8cd08db5dcda507fe8a73546d38f2c
--! Hash: sha1:0fd474de3ec37e34ae3d7623ec76ccec4110330f
--! Message: member changed

-- NOTIFY member_changed: what each API process keeps in memory (src/cache) of a member's answers is to be forgotten, because
-- what the member sees has changed. Sent where a member is marked stale, which every change but a member's own write comes
-- through; that write is followed by its verdict. So a write still pays nothing, and a batch of verdicts sends one.
--
-- The payload carries no ids: `*` for everybody, or hashes one after the other, four characters each: base64 of the first
-- three bytes of the SHA-256 of the id. Two members with one hash (one pair in 16 million) cost each other an answer that is
-- computed again, nothing else.

create function app.notify_members(user_ids text[]) returns void
  language plpgsql volatile set search_path = '' as $$
declare
  -- A payload has less than 8,000 bytes.
  hashes_at_most constant integer := 1990;
  payloads_at_most constant integer := 4;
  calls_at_most constant integer := 100;
  calls integer := coalesce(nullif(current_setting('incentives.notified_members', true), ''), '0')::integer + 1;
  members integer := cardinality(user_ids);
  hashes text;
begin
  if members is null or members = 0 then
    return;
  end if;
  -- A change of many rows by hand comes here row by row; after the first hundred it is everybody, which a transaction sends
  -- once however often it is asked to.
  perform set_config('incentives.notified_members', calls::text, true);
  if calls > calls_at_most or members > hashes_at_most * payloads_at_most then
    perform pg_notify('member_changed', '*');
    return;
  end if;
  select string_agg(encode(substr(sha256(convert_to(user_id, 'UTF8')), 1, 3), 'base64'), '') into hashes
  from unnest(user_ids) as user_id;
  for from_here in 1..length(hashes) by hashes_at_most * 4 loop
    perform pg_notify('member_changed', substr(hashes, from_here, hashes_at_most * 4));
  end loop;
end
$$;
comment on function app.notify_members(text[]) is 'Has the API processes forget what they keep of these members, as soon as this transaction commits.';

-- Called before the completion is announced, always: whoever listens to both hears of the change first.
create or replace function app.mark_stale(user_ids text[]) returns void
  language plpgsql volatile set search_path = '' as $$
begin
  insert into cache.stale_users (user_id, changed_in)
  select distinct user_id, pg_current_xact_id()
  from unnest(user_ids) as user_id
  -- In one order, so that two batches with members in common wait for one another and never deadlock.
  order by user_id
  on conflict (user_id) do update
  set changed_in = excluded.changed_in, changed_at = excluded.changed_at
  where stale_users.changed_in <> excluded.changed_in;
  perform app.notify_members(user_ids);
end
$$;
comment on function app.mark_stale(text[]) is
  'Has these members served live until a refresh has seen this transaction, and forgotten by every API process.';

-- As before, but a completion by hand marks its member whether the row is due or not, and first: it is announced at once.
create or replace function app.tg_user_incentives__record_change() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  completed boolean := tg_op = 'UPDATE' and new.status = 'completed' and old.status <> 'completed';
begin
  if completed or tg_op = 'DELETE' or not new.evaluation_due then
    perform app.mark_stale(array[old.user_id]);
  end if;
  if completed then
    perform app.record_completions(array[new.id]);
  end if;
  return null;
end
$$;

-- The catalogue is in everybody's answers.
create function app.tg__notify_everybody() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
begin
  perform pg_notify('member_changed', '*');
  return null;
end
$$;
comment on function app.tg__notify_everybody() is 'Has the API processes forget all they keep: what every member sees has changed.';

create trigger _900_notify_everybody after insert or update or delete on app.incentives
  for each statement execute function app.tg__notify_everybody();
create trigger _900_notify_everybody after insert or update or delete on app.rewards
  for each statement execute function app.tg__notify_everybody();
create trigger _900_notify_everybody after insert or update or delete or truncate on app.incentive_rewards
  for each statement execute function app.tg__notify_everybody();
