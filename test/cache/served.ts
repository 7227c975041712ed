/**
 * Whether each member is served what stands in the truth: the views of api, asked as that member, beside the same queries over
 * app. Called by the tests of the cache, and by the oracle of the fault tests.
 */
import { Client } from "pg";
import type { Pool } from "pg";

/** What a member reads, all at one moment. */
const served = `
  select jsonb_build_object(
    'incentives', (select jsonb_agg(to_jsonb(ui) order by ui.id) from api.user_incentives as ui),
    'rewards', (select jsonb_agg(to_jsonb(ur) order by ur.id) from api.user_rewards as ur),
    'summary', (select to_jsonb(summary) from api.user_summary() as summary)
  )::text as answer`;

const truth = `
  select jsonb_build_object(
    'incentives', (
      select jsonb_agg(to_jsonb(ui) - '{user_id,evaluation_due}'::text[] order by ui.id)
      from app.user_incentives as ui
      where user_id = $1
    ),
    'rewards', (
      select jsonb_agg(to_jsonb(ur) - 'user_id' || jsonb_build_object('incentive_id', ui.incentive_id) order by ur.id)
      from app.user_rewards as ur
      join app.user_incentives as ui on ui.id = ur.user_incentive_id
      where ur.user_id = $1
    ),
    'summary', (
      select jsonb_build_object(
        'incentives', count(*),
        'in_progress', count(nullif(status <> 'in_progress', true)),
        'completed', count(completed_at),
        'invalid', count(nullif(status <> 'invalid', true)),
        'winnings', (
          select coalesce(jsonb_agg(jsonb_build_object('unit', unit, 'amount', amount, 'rewards', rewards) order by unit), '[]')
          from (select unit, sum(amount) as amount, count(*) as rewards from app.user_rewards where user_id = $1 group by unit) as won
        ),
        'last_changed_at', greatest(max(updated_at), (select max(won_at) from app.user_rewards where user_id = $1))
      )
      from app.user_incentives
      where user_id = $1
    )
  )::text as answer`;

/**
 * The members who are served something else. `pool` is the owner's. With the authenticator's URL the views are asked in a
 * member's role; without it as the owner, who reads the same through them.
 */
export async function servedWrongly(
  pool: Pool,
  members: string[],
  authenticatorUrl?: string,
): Promise<string[]> {
  const wrong: string[] = [];
  const connectionString = authenticatorUrl ?? pool.options.connectionString;
  const client = new Client({ connectionString });
  await client.connect();
  try {
    for (const member of members) {
      const { rows } = await pool.query<{ answer: string }>(truth, [member]);
      await client.query(`begin; ${authenticatorUrl ? "set local role incentives_member" : ""}`);
      await client.query("select set_config('incentives.user_id', $1, true)", [member]);
      const seen = await client.query<{ answer: string }>(served);
      await client.query("rollback");
      if (seen.rows[0]?.answer !== rows[0]?.answer) wrong.push(member);
    }
  } finally {
    await client.end();
  }
  return wrong;
}
