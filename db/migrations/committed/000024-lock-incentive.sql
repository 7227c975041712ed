--! Previous: sha1:15c4fa6de265bbea1673c687723d9be0c0676211
--! Hash: sha1:2b9c0ce3d70fa5904730df30192673a4af89c081
--! Message: lock incentive

-- What an operator's mutation locks while it checks. Not `for update`: that would hold up every recording of a new row, whose
-- foreign key asks whether the incentive is there, and an incentive's key is not what changes here.
create or replace function api.lock_incentive(key text) returns jsonb
  language sql volatile security definer set search_path = '' as $$
  select to_jsonb(incentive)
  from app.incentives as incentive
  where incentive.key = lock_incentive.key
  for no key update
$$;
