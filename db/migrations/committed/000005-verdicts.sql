--! Previous: sha1:722ace3dbc539fabfbacdcdb2892da2d21049595
--! Hash: sha1:89fed87c56cdbefc939ebadeb2fd4208cb5afa92
--! Message: verdicts

-- Stage 5, completion: what the evaluators said becomes the rows' status, set by set.
-- This function is the status's only writer, apart from a human being in psql, whom the triggers serve just the same.

create function app.apply_verdicts(
  ids bigint[],
  statuses text[],
  progresses double precision[],
  explanations jsonb[]
) returns integer
  language plpgsql volatile
  set search_path = ''
  -- Always by the primary key: a plan that was made and kept while the table was still small would read all of it.
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
declare
  judged_ids bigint[];
  completed_ids bigint[];
  user_ids text[];
begin
  -- What the triggers do for a change by hand, row by row, is done here for all rows at once.
  perform set_config('incentives.applying_verdicts', 'on', true);
  with judged as (
    update app.user_incentives as ui
    set evaluation_due = false,
      status = verdict.status,
      progress = verdict.progress,
      explanation = verdict.explanation,
      completed_at = case when verdict.status = 'completed' then now() end,
      updated_at = now()
    from unnest(ids, statuses, progresses, explanations)
      as verdict (id, status, progress, explanation)
    where ui.id = verdict.id
    and ui.status <> 'completed'
    returning ui.id, ui.user_id, ui.status
  )
  select array_agg(id), array_agg(id) filter (where status = 'completed'), array_agg(user_id)
  into judged_ids, completed_ids, user_ids
  from judged;

  -- What is won stays won: a completed row keeps its verdict, and is only no longer due. One that was inserted as
  -- completed is recorded and rewarded now; for the others that was done long ago, and is not done twice.
  if cardinality(judged_ids) is distinct from cardinality(ids) then
    with kept as (
      update app.user_incentives
      set evaluation_due = false
      where id = any (ids)
      and evaluation_due
      returning id, user_id
    )
    select user_ids || array_agg(user_id), completed_ids || array_agg(id)
    into user_ids, completed_ids
    from kept;
  end if;

  perform app.mark_stale(user_ids);
  if completed_ids <> '{}' then
    perform app.record_completions(completed_ids);
  end if;
  perform set_config('incentives.applying_verdicts', 'off', true);
  return cardinality(user_ids);
end
$$;
comment on function app.apply_verdicts(bigint[], text[], double precision[], jsonb[]) is
  'Writes the verdicts on rows that the caller has claimed (locked) in this same transaction. Returns how many were written.';
