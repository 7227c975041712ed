--! Previous: sha1:a38d01d09b4ef69e1a55fb476de7bf0e4909abc8
--! Hash: sha1:15c4fa6de265bbea1673c687723d9be0c0676211
--! Message: who is marked

-- Who is marked stale, more exactly.
--
-- An update that changes nothing marks nobody. What a member sent is sent again often, and its mark was taken in the middle of
-- a batch that then waits for other rows, while who judges those waits for the mark: PostgreSQL had to end one of the two.
-- Without it no recording takes a mark, so none can be in such a circle.
--
-- A row that is inserted as judged, as an import does, marks its member: it is not due, which would have made them live, and
-- while nobody is marked no refresh by the clock would ever find it.

create or replace function app.tg_user_incentives__record_change() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  completed boolean := tg_op = 'UPDATE' and new.status = 'completed' and old.status <> 'completed';
begin
  if tg_op = 'DELETE' and exists (select from app.user_rewards where user_incentive_id = old.id) then
    raise exception 'A user incentive that won a reward stays; delete the reward first.' using errcode = 'IN001';
  end if;
  -- Marked first, because a completion is announced at once.
  if completed or tg_op <> 'UPDATE' or not new.evaluation_due and new is distinct from old then
    perform app.mark_stale(array[coalesce(new.user_id, old.user_id)]);
  end if;
  if completed then
    perform app.record_completions(array[new.id]);
  end if;
  return null;
end
$$;
comment on function app.tg_user_incentives__record_change() is
  'A completion by hand is recorded and rewarded; the member of a row that changed and is not due is marked stale; a row that won a reward stays.';

create trigger _600_record_change_on_insert after insert on app.user_incentives
  for each row when (not new.evaluation_due)
  execute function app.tg_user_incentives__record_change();
