/**
 * Known actions of members, and the model: which of them must complete what. The model follows from how each action was made
 * and never asks an evaluator.
 */
import type { Pool } from "pg";
import type { Chance } from "./seed.ts";

export interface Action {
  user: string;
  incentive: string;
  data: unknown;
  completes: boolean;
}

/** What must be there at rest, by member and incentive. */
export type Model = Map<string, Action>;

export function keyOf({ user, incentive }: Pick<Action, "user" | "incentive">): string {
  return `${user} ${incentive}`;
}

const kinds: Omit<Action, "user">[] = [
  birth("2021-09-15 15:30:00", "2021-09-15 17:15:00", true),
  birth("2021-09-15 15:30:00", "2021-09-14 17:15:00", false),
  birth("2019-09-15 15:30:00", "2021-09-15 17:15:00", false),
  { incentive: "birth_record", data: { birth_date: 7 }, completes: false },
  log(["2021-09-15", "2021-09-14"], true),
  log(["2021-09-15", "2021-09-19", "2021-08-01"], true),
  log(["2021-09-15", "2021-09-15"], false),
  log(["2021-09-15", "2021-10-15"], false),
  log([], false),
];

function birth(birth_date: string, date: string, completes: boolean): Omit<Action, "user"> {
  return { incentive: "birth_record", data: { birth_date, date }, completes };
}

export function log(days: string[], completes: boolean): Omit<Action, "user"> {
  const data = days.map((day) => ({
    date: `${day} 12:00:00`,
    data: [{ type: "mood", value: "happy" }],
  }));
  return { incentive: "health_data_log", data, completes };
}

let members = 0;

export function inventActions(chance: Chance, count: number): Action[] {
  return Array.from({ length: count }, () => ({
    user: `member-${++members}`,
    ...chance.oneOf(kinds),
  }));
}

/** Tries until it is certain that they are recorded: the connection may be lost at any moment. */
export async function record(pool: Pool, model: Model, actions: Action[]): Promise<void> {
  for (let at = 0; at < actions.length; at += 1000) {
    const some = actions.slice(at, at + 1000);
    for (const action of some) model.set(keyOf(action), action);
    while (!(await insert(pool, some).catch(() => false))) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function insert(pool: Pool, actions: Action[]): Promise<boolean> {
  await pool.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select action."user", incentive.id, action.data
    from jsonb_to_recordset($1) as action ("user" text, incentive text, data jsonb)
    join app.incentives as incentive on incentive.key = action.incentive
    on conflict on constraint a_member_has_one_row_per_incentive do nothing`,
    [JSON.stringify(actions)],
  );
  return true;
}
