--! Previous: sha1:617661a4df2408d482d591068bd007523e1cc855
--! Hash: sha1:10fa9f28f3e5a14c7ab783954b86aa39cbea3cd1
--! Message: nothing is left at the end

-- Stage 3, the bell's last step (000004): a run's last look skips a row that somebody has written once more, or locked, since the
-- run asked who writes. That writer has rung, but a bell goes with a transaction that is rolled back, and who only locks a row
-- rings none: the row was due then, and nobody's, until the sweep. So a run does at its end as a writer does: when rows are due and
-- nobody is sure to look, it rings. It does not ring on and on: whoever has the rows has a lock on the table, and the next run
-- waits for them.
create function app.ring_for_what_is_left(judgeable integer[]) returns void
  language plpgsql volatile set search_path = ''
  -- By the index of due rows, as in app.claim_due_rows.
  set enable_seqscan = off
as $$
begin
  if not exists (select from app.user_incentives where evaluation_due and incentive_id = any (judgeable)) then
    return;
  end if;
  -- Who is awake will do the same at their end.
  if not pg_try_advisory_lock_shared(app.awake_lock()) then
    return;
  end if;
  perform pg_advisory_unlock_shared(app.awake_lock());
  if not app.bell_is_waiting() then
    perform app.ring_bell();
  end if;
end
$$;
comment on function app.ring_for_what_is_left(integer[]) is
  'Adds a bell job when rows of these incentives are due, unless somebody is awake or such a job is waiting.';
