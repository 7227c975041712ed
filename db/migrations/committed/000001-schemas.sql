--! Previous: -
--! Hash: sha1:b6247c606fedbb476382f041253d276a17200435
--! Message: schemas

-- Three schemas, one word: `user_incentives` is the table a member's action lands in (app), the snapshot of it (cache)
-- and the view a client reads (api). Nothing is dropped here first: this runs in somebody's own database, where a schema
-- of the same name may hold their work, and then `create schema` stops with a clear error.

do $$
begin
  if to_regclass('graphile_worker._private_jobs') is null then
    raise exception 'The schema graphile_worker must be installed before these migrations.'
      using hint = 'Run: npx graphile-worker --schema-only --connection "$DATABASE_URL", or: npx incentives migrate';
  end if;
end
$$;

create schema app;
comment on schema app is 'The truth: tables, triggers, functions. No member or operator has any grant here.';

create schema cache;
comment on schema cache is 'A snapshot of the truth, and what in it is stale. No member or operator has any grant here.';

create schema api;
comment on schema api is 'The face: views and functions, nothing else; all that PostGraphile sees.';

grant usage on schema api to incentives_member, incentives_operator;

-- Functions are executable by everybody unless told otherwise; here nobody is, until granted by name.
alter default privileges revoke execute on functions from public;
