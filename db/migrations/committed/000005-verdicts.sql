--! Previous: sha1:d59f202db75aaa3936b0ddf2d44aa765a873d6de
--! Hash: sha1:603c555f33c6d674056b90ca6be16ea6c86d3209
--! Message: verdicts

-- Stage 5, completion: what the evaluators said becomes the rows' status, in one set-based statement.
-- This function is the status's only writer, apart from a human being in psql, whom the triggers serve just the same.

create function app.apply_verdicts(
  ids bigint[],
  statuses text[],
  progresses double precision[],
  explanations jsonb[]
) returns integer
  language plpgsql volatile set search_path = '' as $$
declare
  applied integer;
begin
  -- What is won stays won: a completed row keeps its verdict, and is only no longer due.
  update app.user_incentives as ui
  set evaluation_due = false,
    status = case when ui.status = 'completed' then ui.status else verdict.status end,
    progress = case when ui.status = 'completed' then ui.progress else verdict.progress end,
    explanation = case when ui.status = 'completed' then ui.explanation else verdict.explanation end,
    completed_at = case
      when ui.status = 'completed' then ui.completed_at
      when verdict.status = 'completed' then now()
    end,
    updated_at = now()
  from unnest(ids, statuses, progresses, explanations)
    as verdict (id, status, progress, explanation)
  where ui.id = verdict.id;
  get diagnostics applied = row_count;
  return applied;
end
$$;
comment on function app.apply_verdicts(bigint[], text[], double precision[], jsonb[]) is
  'Writes the verdicts on rows that the caller has claimed (locked) in this same transaction. Returns how many were written.';
