/** Writes one log line for each completed incentive: with ids only, as everything in the log. */
import type { IncentiveCompletedListener } from "../delivery/listener.ts";

export const listener: IncentiveCompletedListener = {
  name: "log_completion",
  async handle(event, { logger }) {
    logger.info(
      {
        eventId: event.id,
        userIncentiveId: event.userIncentiveId,
        incentive: event.incentive,
        rewards: event.rewards.map(({ key }) => key),
      },
      "IncentiveCompleted",
    );
  },
};
