--! Previous: sha1:443e15dae93574d7e6b4f375a6ae50dd3f5ad89d
--! Hash: sha1:65fd9cb8b1dbbe2b852e000d22818a1b6dd2514a
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
