--! Previous: sha1:c6726c822c58254a8a2dd13322735ef168a03b55
--! Hash: sha1:8a73cac0a4e227110c1589c92af4e3df67424e4a
--! Message: look at the bell

-- Stage 2: a writer who finds somebody awake calls no function of ours. A call costs 2 µs when its code is at hand, and ten where
-- many writers take turns on a processor; a condition costs less than half of that.
--
-- AWAKE is looked at and let go in one breath: held to the end of the transaction, it would keep the worker from being awake
-- for as long; held until the function below is called, a statement that fails in between would leave it to the session.
drop trigger _500_ring_bell on app.user_incentives;

create or replace function app.tg_user_incentives__ring_bell() returns trigger
  language plpgsql volatile security definer set search_path = '' as $$
declare
  i_ring boolean := false;
begin
  -- After the verdicts themselves (app.apply_verdicts) nothing is due that was not due before; and who holds AWAKE does not see
  -- it taken.
  if current_setting('incentives.applying_verdicts', true) = 'on' then
    return null;
  end if;

  -- A stricter isolation level looks at an old snapshot, so there the look would be worth nothing.
  if current_setting('transaction_isolation') = 'read committed' then
    for look in 1..50 loop
      if app.bell_is_waiting() then
        return null;
      end if;
      -- Mine at the second look: whoever had it before may have just been done.
      exit when i_ring;
      i_ring := pg_try_advisory_xact_lock(app.ring_lock());
      if not i_ring then
        perform pg_sleep(0.002);
      end if;
    end loop;
  end if;

  -- An update of data that changed nothing made nothing due.
  if exists (select from app.user_incentives where evaluation_due) then
    perform app.ring_bell();
  end if;
  return null;
end
$$;
drop function app.ring_bell_once();

-- AWAKE (app.awake_lock), written out because whoever writes need not have the right to that function. The order of the two is
-- what makes it a look: the second is not asked when the first is refused.
create trigger _500_ring_bell after insert or update of data, evaluation_due on app.user_incentives
  for each statement
  when (pg_try_advisory_lock_shared(7401000001) and pg_advisory_unlock_shared(7401000001))
  execute function app.tg_user_incentives__ring_bell();
