/**
 * How soon after a change of 0.1 % of the members all of them have read it, beside a cache that is only refreshed. Called by
 * the measure of the refresh.
 */
import { refuseUnless } from "./counts.ts";
import type { BenchDatabase } from "./server.ts";

/** Milliseconds from the change being sent until each of these members has read it. */
export async function measureChange(
  { client }: BenchDatabase,
  rows: number,
  round: number,
): Promise<{ ours: number; refreshed: number }> {
  const changed = Math.max(1, Math.round(rows / 2 / 1000));
  const { rows: found } = await client.query<{ ids: string[]; members: string[] }>(
    `select array_agg(id) as ids, array_agg(user_id) as members
    from (
      select id, user_id from app.user_incentives
      where status = 'in_progress' order by id offset $2 limit $1
    ) as some_rows`,
    [changed, round * changed],
  );
  const { ids = [], members = [] } = found[0] ?? {};
  refuseUnless(changed, { "members to change": members.length });
  const progress = 0.6 + round / 100;

  const began = performance.now();
  await client.query("select app.apply_verdicts($1, array_fill(1, array[$2::int]), $3)", [
    ids,
    changed,
    JSON.stringify([{ status: "in_progress", progress, explanation: [] }]),
  ]);
  await readAll(client, members, "api.user_incentives", progress);
  const ours = performance.now() - began;

  // What one has without the live delta: nobody sees it before the view was refreshed. One view, of our four.
  await client.query("set session_replication_role = replica");
  const refreshBegan = performance.now();
  await client.query("update app.user_incentives set progress = $2 where id = any ($1)", [
    ids,
    progress + 0.005,
  ]);
  await client.query("refresh materialized view concurrently cache.user_incentives");
  await readAll(client, members, "cache.user_incentives", progress + 0.005);
  const refreshed = performance.now() - refreshBegan;
  await client.query("set session_replication_role = default");
  return { ours, refreshed };
}

/** Reads what each member has, one after another, as fast as one connection can; throws when one is shown something else. */
async function readAll(
  client: BenchDatabase["client"],
  members: string[],
  view: string,
  progress: number,
): Promise<void> {
  const mine = view.startsWith("cache") ? "where user_id = member" : "";
  await client.query("select set_config('bench.members', $1, false)", [members.join(",")]);
  await client.query(`
    do $$
    declare
      member text;
      found_progress double precision;
    begin
      foreach member in array string_to_array(current_setting('bench.members'), ',') loop
        perform set_config('incentives.user_id', member, true);
        select max(progress) filter (where status = 'in_progress') into found_progress from ${view} ${mine};
        if found_progress is distinct from ${progress} then
          raise exception 'a member reads something old';
        end if;
      end loop;
    end
    $$`);
}
