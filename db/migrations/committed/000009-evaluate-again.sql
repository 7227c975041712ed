--! Previous: sha1:88f7e5acef42f2a2b3e121051b83b6359bd61ec0
--! Hash: sha1:ccb84a58b23fae1920b593084c6868b24d744da6
--! Message: evaluate again

-- Judging again: rows that were judged already become due once more, because what they were judged by has changed: their
-- incentive, its evaluator, or the time, which opens and closes an incentive. Otherwise a member who did everything too early
-- would never get what they earned.
--
-- One update of all these rows would lock them until it commits, and members who write would wait for as long. So this is a
-- job: it marks some thousand rows and, in the same transaction, adds the job for those after them, so that it may be killed
-- anywhere. The jobs have no key on purpose. A key would merge what two changes ask for, but a keyed add_job does nothing
-- while the job of that key is being taken, and then the second change would be lost. Two passes over the same rows do no
-- harm. For a time to come there is a job that waits for it, which is exact and needs nobody to remember the last look.
--
-- Why no row keeps a verdict from before: whoever judges reads the catalogue and the clock after it has locked the rows. A
-- row that is locked here is not being judged, so it will be judged by what is now. A row that is locked by somebody else
-- is passed over, not waited for: the wait would hold the locks on all the others, and might deadlock with a member who
-- writes several rows. It gets a job that comes back for it. A row that is not visible yet is due when it is.

create function app.evaluate_again(incentive_id integer, run_at timestamptz default now()) returns void
  language sql volatile set search_path = '' as $$
  select graphile_worker.add_job(
    'evaluate_again',
    json_build_object('incentive_id', evaluate_again.incentive_id),
    run_at => evaluate_again.run_at
  )
$$;
comment on function app.evaluate_again(integer, timestamptz) is
  'Has all rows of an incentive that are not completed judged again, at once or at a later time.';

create function app.mark_due_again(job json) returns void
  language plpgsql volatile set search_path = '' as $$
declare
  rows_at_once constant integer := 5000;
  due_at_most constant integer := 20000;
  its_incentive constant integer := (job ->> 'incentive_id')::integer;
  looked_at integer := 0;
  last_id bigint;
  open_ids bigint[];
  marked bigint[];
begin
  -- Never far ahead of who judges: a member who records meanwhile has only so many rows before them.
  perform from app.user_incentives
  where evaluation_due
  and incentive_id = its_incentive
  offset due_at_most limit 1;
  if found then
    perform graphile_worker.add_job('evaluate_again', job, run_at => now() + interval '1 second');
    return;
  end if;

  if job -> 'ids' is null then
    -- Along the primary key, whatever the incentive: the same small effort for each job, and no index of its own.
    select count(*), max(id), array_agg(id) filter (where incentive_id = its_incentive and status <> 'completed')
    into looked_at, last_id, open_ids
    from (
      select id, incentive_id, status
      from app.user_incentives
      where id > coalesce((job ->> 'after')::bigint, 0)
      order by id
      limit rows_at_once
    ) as those_after;
  else
    open_ids := array(
      select id
      from app.user_incentives
      where id in (select json_array_elements_text(job -> 'ids')::bigint)
      and status <> 'completed'
    );
  end if;

  marked := array(
    select id
    from app.user_incentives
    where id = any (open_ids)
    and status <> 'completed'
    order by id
    for update skip locked
  );
  -- A due row's updated_at says since when it is due.
  update app.user_incentives
  set evaluation_due = true, updated_at = now()
  where id = any (marked)
  and not evaluation_due;

  if cardinality(marked) < cardinality(open_ids) then
    perform graphile_worker.add_job(
      'evaluate_again',
      json_build_object(
        'incentive_id', its_incentive,
        'ids', array(select id::text from unnest(open_ids) as id where id <> all (marked))
      ),
      run_at => now() + interval '1 second'
    );
  end if;
  if looked_at = rows_at_once then
    perform graphile_worker.add_job(
      'evaluate_again',
      json_build_object(
        'incentive_id', its_incentive,
        'after', last_id::text,
        'marked', coalesce((job ->> 'marked')::bigint, 0) + cardinality(marked)
      )
    );
  end if;
end
$$;
comment on function app.mark_due_again(json) is 'One job of evaluate_again: marks the next rows as due, and adds the job for the rest.';

create function app.tg_incentives__evaluate_again() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  moment timestamptz;
begin
  -- A new incentive has no rows yet.
  if tg_op = 'UPDATE' then
    perform app.evaluate_again(new.id);
  end if;
  -- It opens and it closes. When these are changed once more, the jobs for the old times stay and find nothing to do.
  foreach moment in array array[new.starts_at, new.ends_at] loop
    if moment > now() and isfinite(moment) then
      perform app.evaluate_again(new.id, moment);
    end if;
  end loop;
  return null;
end
$$;
comment on function app.tg_incentives__evaluate_again() is 'An incentive that changes, opens or closes has its open rows judged again.';

create trigger _500_evaluate_again_on_insert after insert on app.incentives
  for each row when (new.starts_at is not null or new.ends_at is not null)
  execute function app.tg_incentives__evaluate_again();
create trigger _500_evaluate_again_on_update after update on app.incentives
  for each row when (
    (old.evaluator, old.criteria, old.is_active, old.starts_at, old.ends_at)
    is distinct from (new.evaluator, new.criteria, new.is_active, new.starts_at, new.ends_at)
  )
  execute function app.tg_incentives__evaluate_again();
