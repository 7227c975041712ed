--! Previous: sha1:1be55c43c5e07a4a7323bd1294c8f7bf3f14d32f
--! Hash: sha1:2d0e7d0d9f62cdaf81d91f1679f9fa688161f416
--! Message: lighter recording

-- Recording reads its actions by what PostgreSQL itself brings for that, and looks at a request's members and keys only where
-- there are any: the functions around it cost one action as much as its row did.

-- A problem is a value here, not an exception: an action that is refused must not undo those beside it, and a savepoint for each
-- of hundreds would slow down everybody's snapshots.
create or replace function app.record_actions(caller_id text, actions jsonb)
  returns table (index integer, user_incentive_id bigint, replayed boolean, problem text)
  language plpgsql volatile set search_path = '' as $$
declare
  problems text[] := array_fill(null::text, array[jsonb_array_length(actions)]);
  replays boolean[] := array_fill(false, array[jsonb_array_length(actions)]);
  recorded_ids bigint[] := array_fill(null::bigint, array[jsonb_array_length(actions)]);
  refused_keys text[] := '{}';
  outcome text;
  action record;
  target record;
  recorded record;
begin
  -- The keys first, in their order.
  for action in
    select given.position, given.idempotency_key, given.data, incentive.id as incentive_id,
      coalesce(given.user_id, caller_id) as user_id, given.incentive
    from rows from (
      jsonb_to_recordset(actions) as (user_id text, incentive text, data jsonb, idempotency_key text)
    ) with ordinality as given (user_id, incentive, data, idempotency_key, position)
    left join app.incentives as incentive on incentive.key = given.incentive
    order by given.idempotency_key, given.position
  loop
    if action.incentive_id is null then
      problems[action.position] := 'IN002';
    elsif action.data is null or action.data = '[]' then
      problems[action.position] := 'IN004';
    elsif action.idempotency_key is not null then
      outcome := app.use_idempotency_key(
        caller_id,
        action.idempotency_key,
        sha256(convert_to(jsonb_build_array(action.user_id, action.incentive, action.data)::text, 'UTF8')),
        action.user_id,
        action.incentive_id
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
    select coalesce(given.user_id, caller_id) as user_id, incentive.id as incentive_id, incentive.records,
      array_agg(given.position order by given.position) as positions,
      array_agg(given.idempotency_key order by given.position) as keys,
      array_agg(
        case
          when incentive.records = 'document' or jsonb_typeof(given.data) = 'array' then given.data
          else jsonb_build_array(given.data)
        end
        order by given.position
      ) as parts
    from rows from (
      jsonb_to_recordset(actions) as (user_id text, incentive text, data jsonb, idempotency_key text)
    ) with ordinality as given (user_id, incentive, data, idempotency_key, position)
    join app.incentives as incentive on incentive.key = given.incentive
    where problems[given.position] is null
    and not replays[given.position]
    group by 1, 2, 3
    order by 1, 2
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
        refused_keys := refused_keys || target.keys[part];
      else
        recorded_ids[target.positions[part]] := recorded.id;
      end if;
    end loop;
  end loop;

  -- What was refused leaves its key free for another try.
  if refused_keys <> '{}' then
    delete from app.idempotency_keys as used
    where used.caller_id = record_actions.caller_id
    and used.key = any (refused_keys);
  end if;

  return query
    select position::integer - 1, result.id, result.replay, result.problem
    from unnest(recorded_ids, replays, problems) with ordinality
      as result (id, replay, problem, position);
end
$$;

create or replace function api.record_incentives(actions jsonb)
  returns table (index integer, user_incentive_id bigint, replayed boolean, problem text)
  language plpgsql volatile security definer set search_path = '' as $$
declare
  caller_id text := nullif(current_setting('incentives.user_id', true), '');
begin
  if caller_id is null then
    raise exception 'Nobody is recording: the request carries no member.' using errcode = 'IN005';
  end if;
  if current_setting('incentives.acts_for_members', true) is distinct from 'on' and exists (
    select from jsonb_array_elements(actions) as action
    where action ->> 'user_id' <> caller_id
  ) then
    raise exception 'This caller records for nobody else.' using errcode = 'insufficient_privilege';
  end if;
  return query select * from app.record_actions(caller_id, actions);
end
$$;

create or replace function api.record_incentive(incentive text, data jsonb, idempotency_key text default null)
  returns api.user_incentives
  language plpgsql volatile security definer set search_path = '' as $$
declare
  caller_id text := nullif(current_setting('incentives.user_id', true), '');
  recorded record;
  answer api.user_incentives;
begin
  if caller_id is null then
    raise exception 'Nobody is recording: the request carries no member.' using errcode = 'IN005';
  end if;
  select * into strict recorded
  from app.record_actions(caller_id, jsonb_build_array(jsonb_build_object(
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

drop function app.read_actions(text, jsonb);
