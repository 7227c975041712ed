/** The rules of db/CONVENTIONS.md that a machine can hold: each query names the offenders, and there are none. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const ours = "('app', 'cache', 'api')";

const rules: Record<string, string> = {
  "a security definer function has an empty search_path": `
    select p.oid::regprocedure::text as offender
    from pg_proc p
    where p.pronamespace::regnamespace::text in ${ours}
    and p.prosecdef
    and not coalesce(p.proconfig @> array['search_path=""'], false)`,
  "every foreign key is served by an index": `
    select c.conname as offender
    from pg_constraint c
    where c.contype = 'f'
    and c.connamespace::regnamespace::text in ${ours}
    and not exists (
      select from pg_index i
      where i.indrelid = c.conrelid
      and i.indpred is null
      and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey
    )`,
  "a trigger is called _NNN_verb_phrase and its function tg_table__verb_phrase": `
    select t.tgname || ' on ' || t.tgrelid::regclass as offender
    from pg_trigger t
    join pg_proc p on p.oid = t.tgfoid
    where not t.tgisinternal
    and t.tgrelid in (select oid from pg_class where relnamespace::regnamespace::text in ${ours})
    and not (
      t.tgname ~ '^_[1-9]00_[a-z]+_[a-z_]+$|^_[1-9]00_announce$'
      and p.proname ~ ('^tg_(' || (select relname from pg_class where oid = t.tgrelid) || '_)?_[a-z_]+$')
    )`,
  "a table, view and function has a comment": `
    select c.oid::regclass::text as offender
    from pg_class c
    where c.relnamespace::regnamespace::text in ${ours}
    and c.relkind in ('r', 'v', 'm')
    and obj_description(c.oid, 'pg_class') is null
    union all
    select p.oid::regprocedure::text
    from pg_proc p
    where p.pronamespace::regnamespace::text in ${ours}
    and obj_description(p.oid, 'pg_proc') is null`,
  "api holds views and functions, nothing else": `
    select c.oid::regclass::text as offender
    from pg_class c
    where c.relnamespace = 'api'::regnamespace
    and c.relkind <> 'v'`,
  "every view of api is a security barrier": `
    select c.oid::regclass::text as offender
    from pg_class c
    where c.relnamespace = 'api'::regnamespace
    and not coalesce(c.reloptions && array['security_barrier', 'security_barrier=true'], false)`,
  "nobody but the owner has a privilege on app or cache": `
    select role.rolname || ' on ' || c.oid::regclass as offender
    from pg_class c
    cross join pg_roles role
    where c.relnamespace::regnamespace::text in ('app', 'cache')
    and c.relkind in ('r', 'v', 'm', 'S')
    and role.rolname in ('incentives_member', 'incentives_operator', 'incentives_authenticator')
    and case c.relkind
      when 'S' then has_sequence_privilege(role.oid, c.oid, 'usage, select, update')
      else has_table_privilege(role.oid, c.oid, 'select, insert, update, delete, truncate, references, trigger')
        or has_any_column_privilege(role.oid, c.oid, 'select, insert, update, references')
    end
    union all
    select role.rolname || ' on schema ' || n.nspname
    from pg_namespace n
    cross join pg_roles role
    where n.nspname in ('app', 'cache', 'graphile_worker')
    and role.rolname in ('incentives_member', 'incentives_operator', 'incentives_authenticator')
    and has_schema_privilege(role.oid, n.oid, 'usage, create')`,
  "no function is executable by everybody": `
    select p.oid::regprocedure::text as offender
    from pg_proc p
    where p.pronamespace::regnamespace::text in ${ours}
    and (p.proacl is null or exists (select from aclexplode(p.proacl) where grantee = 0))`,
  "every table that holds a member's data has row level security": `
    select distinct c.oid::regclass::text as offender
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid
    where c.relnamespace::regnamespace::text in ('app', 'cache')
    and c.relkind = 'r'
    and a.attname in ('user_id', 'user_incentive_id')
    and not c.relrowsecurity`,
};

describe("the database keeps the house rules:", () => {
  test.each(Object.entries(rules))("%s", async (_rule, query) => {
    const { rows } = await database.pool.query<{ offender: string }>(query);
    expect(rows.map(({ offender }) => offender)).toEqual([]);
  });
});
