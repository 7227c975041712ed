--! Previous: sha1:0712ff9946bf8f9b8984f4644f4dc906df03622f
--! Hash: sha1:475c1914d4831bc9dc32d7cd0541d3ec074b7e1e
--! Message: recording

-- Recording once and for all: many actions in one call, and never one of them twice. A client that lost the answer sends the
-- action again with the same idempotency key, and then the key, not the client, knows whether it was recorded. So the key is
-- written in the transaction that records: either both are there or neither is, also when the reply to COMMIT is lost.
--
-- A second request with the same key, at the same moment, waits at the primary key for the first one's end. A key is written
-- before the row it is for, keys and rows each in one order, so that two batches with some in common never deadlock.

-- The key says which row was written, by what is known before it is written (a member has one row per incentive), so that it is
-- written once and not updated. No copy of the answer: that would be health data, kept twice. No foreign keys: a key says what
-- happened, and outlives the row for some hours. It belongs to who sent it: a partner's keys are not those of the members.
create table app.idempotency_keys (
  caller_id text not null,
  key text not null
    constraint an_idempotency_key_has_1_to_255_visible_characters check (key ~ '^[!-~]{1,255}$'),
  request_hash bytea not null,
  user_id text not null,
  incentive_id integer not null,
  created_at timestamptz not null default now(),
  constraint an_idempotency_key_is_used_once primary key (caller_id, key)
);
-- What app.prune_idempotency_keys deletes by.
create index idempotency_keys_by_age on app.idempotency_keys (created_at);
comment on table app.idempotency_keys is 'Which keys were used in the last 72 hours, by whom, and for what.';
comment on column app.idempotency_keys.caller_id is 'Whose token the request carried.';
comment on column app.idempotency_keys.request_hash is 'SHA-256 of the member, the incentive and the data, by which the same key with another body is refused.';
comment on column app.idempotency_keys.user_id is 'Whose action it was.';
alter table app.idempotency_keys enable row level security;

create function app.prune_idempotency_keys() returns bigint
  language sql volatile set search_path = '' as $$
  with pruned as (
    delete from app.idempotency_keys
    where created_at < now() - interval '72 hours'
    returning 1
  )
  select count(*) from pruned
$$;
comment on function app.prune_idempotency_keys() is 'Forgets the keys that are older than 72 hours. Returns how many. Run by the worker each hour.';

create function app.count_entries(data jsonb) returns integer
  language sql immutable set search_path = '' as $$
  select case jsonb_typeof(data) when 'array' then jsonb_array_length(data) else 1 end
$$;
comment on function app.count_entries(jsonb) is 'How many entries a log has. What somebody wrote by SQL may be no array; it becomes the first entry.';

create function app.read_actions(caller_id text, actions jsonb)
  returns table ("position" integer, user_id text, incentive text, data jsonb, idempotency_key text)
  language sql immutable rows 100 set search_path = '' as $$
  select position::integer,
    coalesce(action ->> 'user_id', read_actions.caller_id),
    action ->> 'incentive',
    coalesce(action -> 'data', 'null'),
    action ->> 'idempotency_key'
  from jsonb_array_elements(read_actions.actions) with ordinality as given (action, position)
$$;
comment on function app.read_actions(text, jsonb) is 'The actions of a request as rows. Without a user_id an action is the caller''s own.';

create function app.use_idempotency_key(caller_id text, key text, request_hash bytea, user_id text, incentive_id integer)
  returns text
  language plpgsql volatile set search_path = '' as $$
declare
  same_request boolean;
begin
  -- Again when the key was pruned in between.
  loop
    insert into app.idempotency_keys
    values (caller_id, key, request_hash, user_id, incentive_id)
    on conflict on constraint an_idempotency_key_is_used_once do nothing;
    if found then
      return 'new';
    end if;
    select used.request_hash = use_idempotency_key.request_hash into same_request
    from app.idempotency_keys as used
    where used.caller_id = use_idempotency_key.caller_id
    and used.key = use_idempotency_key.key;
    if found then
      return case when same_request then 'replayed' else 'taken' end;
    end if;
  end loop;
end
$$;
comment on function app.use_idempotency_key(text, text, bytea, text, integer) is
  '`new`, `replayed` (used before, for the same request) or `taken` (for another). Waits for a transaction that is using it.';

create function app.add_to_log(user_id text, incentive_id integer, parts jsonb[], out id bigint, out fits boolean[])
  language plpgsql volatile set search_path = '' as $$
declare
  entries_at_most constant integer := 5000;
  room integer;
  added jsonb;
begin
  select jsonb_agg(entry order by part.position, entries.position) into added
  from unnest(parts) with ordinality as part (part, position)
  cross join jsonb_array_elements(part.part) with ordinality as entries (entry, position);
  fits := array_fill(true, array[cardinality(parts)]);

  loop
    if jsonb_array_length(added) <= entries_at_most then
      insert into app.user_incentives as ui (user_id, incentive_id, data)
      values (add_to_log.user_id, add_to_log.incentive_id, added)
      on conflict on constraint a_member_has_one_row_per_incentive do update
      set data = ui.data || excluded.data
      where app.count_entries(ui.data) + app.count_entries(excluded.data) <= entries_at_most
      returning ui.id into id;
      exit when found;
    end if;

    -- Not all of it fits: in order, whatever does. Locked, so that it still fits at the next try.
    select app.count_entries(ui.data) into room
    from app.user_incentives as ui
    where ui.user_id = add_to_log.user_id
    and ui.incentive_id = add_to_log.incentive_id
    for update;
    room := entries_at_most - coalesce(room, 0);
    added := '[]';
    for part in 1..cardinality(parts) loop
      fits[part] := jsonb_array_length(parts[part]) <= room;
      if fits[part] then
        added := added || parts[part];
        room := room - jsonb_array_length(parts[part]);
      end if;
    end loop;
    exit when added = '[]';
  end loop;
end
$$;
comment on function app.add_to_log(text, integer, jsonb[]) is
  'Adds arrays of entries to a member''s log, those that fit, in one statement: a log is copied as a whole each time it grows.';

-- A problem is a value here, not an exception: an action that is refused must not undo those beside it, and a savepoint for each
-- of hundreds would slow down everybody's snapshots.
create function app.record_actions(caller_id text, actions jsonb)
  returns table (index integer, user_incentive_id bigint, replayed boolean, problem text)
  language plpgsql volatile set search_path = '' as $$
declare
  problems text[] := array_fill(null::text, array[jsonb_array_length(actions)]);
  replays boolean[] := array_fill(false, array[jsonb_array_length(actions)]);
  recorded_ids bigint[] := array_fill(null::bigint, array[jsonb_array_length(actions)]);
  outcome text;
  action record;
  target record;
  recorded record;
begin
  -- The keys first, in their order.
  for action in
    select given.*, incentive.id as incentive_id,
      sha256(convert_to(jsonb_build_array(given.user_id, given.incentive, given.data)::text, 'UTF8')) as hash
    from app.read_actions(caller_id, actions) as given
    left join app.incentives as incentive on incentive.key = given.incentive
    order by given.idempotency_key, given.position
  loop
    if action.incentive_id is null then
      problems[action.position] := 'IN002';
    elsif action.data in ('null', '[]') then
      problems[action.position] := 'IN004';
    elsif action.idempotency_key is not null then
      outcome := app.use_idempotency_key(
        caller_id, action.idempotency_key, action.hash, action.user_id, action.incentive_id
      );
      if outcome = 'taken' then
        problems[action.position] := 'IN007';
      elsif outcome = 'replayed' then
        replays[action.position] := true;
        select ui.id into recorded
        from app.user_incentives as ui
        where ui.user_id = action.user_id
        and ui.incentive_id = action.incentive_id;
        recorded_ids[action.position] := recorded.id;
        -- A key can outlive its row.
        problems[action.position] := case when recorded.id is null then 'IN008' end;
      end if;
    end if;
  end loop;

  -- Then the rows in theirs, each once.
  for target in
    select given.user_id, incentive.id as incentive_id, incentive.records,
      array_agg(given.position order by given.position) as positions,
      array_agg(
        case
          when incentive.records = 'document' or jsonb_typeof(given.data) = 'array' then given.data
          else jsonb_build_array(given.data)
        end
        order by given.position
      ) as parts
    from app.read_actions(caller_id, actions) as given
    join app.incentives as incentive on incentive.key = given.incentive
    where problems[given.position] is null
    and not replays[given.position]
    group by given.user_id, incentive.id, incentive.records
    order by given.user_id, incentive.id
  loop
    if target.records = 'log' then
      recorded := app.add_to_log(target.user_id, target.incentive_id, target.parts);
    else
      -- Each replaces the one before, so only the last is ever seen.
      insert into app.user_incentives as ui (user_id, incentive_id, data)
      values (target.user_id, target.incentive_id, target.parts[cardinality(target.parts)])
      on conflict on constraint a_member_has_one_row_per_incentive do update
      set data = excluded.data
      returning ui.id, null::boolean[] as fits into recorded;
    end if;
    for part in 1..cardinality(target.positions) loop
      if recorded.fits[part] is false then
        problems[target.positions[part]] := 'IN003';
      else
        recorded_ids[target.positions[part]] := recorded.id;
      end if;
    end loop;
  end loop;

  -- What was refused leaves its key free for another try.
  if 'IN003' = any (problems) then
    delete from app.idempotency_keys as used
    using app.read_actions(record_actions.caller_id, actions) as given
    where problems[given.position] = 'IN003'
    and used.caller_id = record_actions.caller_id
    and used.key = given.idempotency_key;
  end if;

  return query
    select position::integer - 1, result.id, result.replay, result.problem
    from unnest(recorded_ids, replays, problems) with ordinality
      as result (id, replay, problem, position);
end
$$;
comment on function app.record_actions(text, jsonb) is
  'Records actions, each of which succeeds or has a problem (an error code) for itself. `replayed`: its key was used before, for the same.';

-- What the API calls, for one action or many. PostGraphile leaves it out: it has mutations of its own, which check the data first.
create function api.record_incentives(actions jsonb)
  returns table (index integer, user_incentive_id bigint, replayed boolean, problem text)
  language plpgsql volatile security definer set search_path = '' as $$
declare
  caller_id text := nullif(current_setting('incentives.user_id', true), '');
begin
  if caller_id is null then
    raise exception 'Nobody is recording: the request carries no member.' using errcode = 'IN005';
  end if;
  if current_setting('incentives.acts_for_members', true) is distinct from 'on' and exists (
    select from app.read_actions(caller_id, actions) as given
    where given.user_id <> caller_id
  ) then
    raise exception 'This caller records for nobody else.' using errcode = 'insufficient_privilege';
  end if;
  return query select * from app.record_actions(caller_id, actions);
end
$$;
comment on function api.record_incentives(jsonb) is E'@behavior -*\nRecords an array of {"incentive", "data", "user_id", "idempotency_key"}, the last two only where they are needed.';
grant execute on function api.record_incentives(jsonb) to incentives_member;

drop function api.record_incentive(text, jsonb);
create function api.record_incentive(incentive text, data jsonb, idempotency_key text default null)
  returns api.user_incentives
  language plpgsql volatile security definer set search_path = '' as $$
declare
  recorded record;
  answer api.user_incentives;
begin
  select * into strict recorded
  from api.record_incentives(jsonb_build_array(jsonb_build_object(
    'incentive', record_incentive.incentive,
    'data', record_incentive.data,
    'idempotency_key', record_incentive.idempotency_key
  )));
  case recorded.problem
    when 'IN002' then
      raise exception 'There is no such incentive.' using errcode = 'IN002';
    when 'IN003' then
      raise exception 'This log would have more than 5,000 entries.' using errcode = 'IN003';
    when 'IN004' then
      raise exception 'There is nothing to record.' using errcode = 'IN004';
    when 'IN007' then
      raise exception 'This idempotency key was used for something else.' using errcode = 'IN007';
    when 'IN008' then
      raise exception 'What was recorded with this idempotency key is gone.' using errcode = 'IN008';
    else
      select * into strict answer from api.user_incentives where id = recorded.user_incentive_id;
      return answer;
  end case;
end
$$;
comment on function api.record_incentive(text, jsonb, text) is E'@resultFieldName userIncentive\nRecords what the member did. A document replaces the one before; for a log, one entry or an array of entries is added. Sent again with the same `idempotencyKey` (1 to 255 visible characters, kept for 72 hours) it is recorded once.';
grant execute on function api.record_incentive(text, jsonb, text) to incentives_member;
