--! Previous: sha1:2b9c0ce3d70fa5904730df30192673a4af89c081
--! Hash: sha1:3337634cd692460146758fd3b8b796d00b2e239e
--! Message: errors of our own jobs

-- Of what others wrote into a job as its error nothing is shown: behind the class there may stand a word in capitals or a number
-- that is a member's, and it looks like a code. Our own tasks write classes and codes only (src/worker/safe_tasks.ts).

create function app.own_tasks() returns text[] language sql immutable as $$
  select array[
    'evaluate_incentives', 'evaluate_incentive', 'evaluate_again', 'deliver_incentive_completed', 'refresh_cache',
    'prune_idempotency_keys'
  ]
$$;
comment on function app.own_tasks() is 'The tasks of this system (src/worker/tasks.ts); others may use the same queue for theirs.';

create or replace function app.read_jobs()
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
    case when job.task_identifier = any (app.own_tasks()) then
      substring(job.last_error from '^(?:connection lost: )?(?:[A-Z]\w{0,49}Error|Error|error)(?: [A-Z0-9_]{1,50})?\M')
    end
  from graphile_worker.jobs as job
  join graphile_worker._private_jobs as private on private.id = job.id
  cross join lateral (
    select
      case jsonb_typeof(private.payload::jsonb) when 'array' then private.payload::jsonb -> 0 else private.payload::jsonb end,
      case jsonb_typeof(private.payload::jsonb) when 'array' then jsonb_array_length(private.payload::jsonb) end
  ) as payload (first, entries)
$$;
comment on column api.jobs.error is 'The class of what the last attempt failed with; only of this system''s own tasks.';
