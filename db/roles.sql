-- The four roles. They belong to the whole server and not to one database, so no migration can make them: run this once
-- with psql, connected to the database postgres, as a superuser or as an administrator with createrole and createdb (what
-- managed services give you), on PostgreSQL 15 or newer. Running it again changes nothing.
--
-- No password is in this file. Afterwards:
--
--   \password incentives_owner
--   \password incentives_authenticator
--   create database incentives owner incentives_owner;
--   revoke connect, temporary on database incentives from public;
--   grant connect on database incentives to incentives_authenticator;
--
-- `create database … owner` needs an administrator who may act as the owner: a superuser may, everybody else is granted
-- incentives_owner below.
--
-- Why four: the owner can do anything to our schemas, so nothing that listens to the world may log in as it. The API logs
-- in as the authenticator, which can do nothing by itself (noinherit, and nothing is granted to it), and for each request
-- becomes the member or the operator, who have only what the migrations grant them.

do $$
declare
  wanted record;
  is_superuser constant boolean := (select rolsuper from pg_roles where rolname = current_user);
begin
  -- Two at once would trip over each other's rows; the handlers below are for two in different databases.
  perform pg_advisory_xact_lock(hashtext('incentives roles'));

  for wanted in
    select *
    from (
      values
        ('incentives_owner', 'login inherit',
          'Owns the database Incentives lives in, migrates it and runs the worker.'),
        ('incentives_authenticator', 'login noinherit',
          'The API logs in as this; it can do nothing but become a member or an operator.'),
        ('incentives_member', 'nologin inherit',
          'What a request of a member runs as.'),
        ('incentives_operator', 'nologin inherit',
          'What a request of an operator, who looks after the catalogue, runs as.')
    ) as roles (name, attributes, comment)
  loop
    begin
      if not exists (select from pg_roles where rolname = wanted.name) then
        execute format('create role %I %s', wanted.name, wanted.attributes);
        execute format('comment on role %I is %L', wanted.name, wanted.comment);
      end if;
    exception
      when duplicate_object or unique_violation then null;
    end;
  end loop;

  -- A role of that name that was there before may be another kind of role; changing it needs rights over it, so only then.
  if exists (
    select from pg_roles
    where rolname = 'incentives_authenticator'
    and (rolinherit or not rolcanlogin)
  ) then
    alter role incentives_authenticator with login noinherit;
  end if;

  begin
    if not exists (
      select from pg_auth_members
      where roleid = 'incentives_member'::regrole
      and member = 'incentives_authenticator'::regrole
    ) or not exists (
      select from pg_auth_members
      where roleid = 'incentives_operator'::regrole
      and member = 'incentives_authenticator'::regrole
    ) then
      -- Since 16 each grant says itself whether it inherits; before, the noinherit of the authenticator does.
      execute 'grant incentives_member, incentives_operator to incentives_authenticator'
        || case
          when current_setting('server_version_num')::integer >= 160000
            then ' with inherit false, set true'
          else ''
        end;
    end if;

    -- Since 16 whoever made a role may grant it, but not act as it, until they grant it to themselves.
    if not is_superuser and not pg_has_role(current_user, 'incentives_owner', 'usage') then
      execute format('grant incentives_owner to %I', current_user);
    end if;
  exception
    when duplicate_object or unique_violation then null;
  end;
end
$$;
