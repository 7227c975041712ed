/**
 * The subscription `incentiveCompleted` in the GraphQL schema. Whose events it is about follows from the verified token and is
 * no argument. Events come to it one at a time, through the context (graphql_socket.ts).
 */
import { access, context, lambda, listen, SafeError } from "postgraphile/grafast";
import type { GrafastSubscriber, Step } from "postgraphile/grafast";
import { extendSchema, gql } from "postgraphile/utils";
import type { Completion } from "../../live/feed.ts";

/** `listen` wants a topic; there is one. */
interface Topics extends Record<string, Completion> {
  incentive_completed: Completion;
}

declare global {
  namespace Grafast {
    interface Context {
      /** Only for a subscription, and only with the event that is to be answered now. */
      completion?: GrafastSubscriber<Topics>;
    }
  }
}

export const IncentiveCompletedPlugin: GraphileConfig.Plugin = extendSchema((build) => {
  const { user_incentives: userIncentives } = build.pgResources;
  if (!userIncentives) throw new Error("The schema api has no view user_incentives");
  return {
    typeDefs: gql`
      extend type Subscription {
        """
        Each incentive that this member completes from now on, once and in order. Over WebSocket (graphql-ws).
        """
        incentiveCompleted: IncentiveCompleted!
      }

      """
      An incentive was completed.
      """
      type IncentiveCompleted {
        """
        The event's id; the same wherever the event is told.
        """
        id: BigInt!
        occurredAt: Datetime!
        """
        As it is now. Null when it was erased in the meantime.
        """
        userIncentive: UserIncentive
      }
    `,
    objects: {
      Subscription: {
        plans: {
          incentiveCompleted: {
            subscribePlan: () =>
              listen(lambda(context().get("completion"), orRefuse), "incentive_completed"),
            plan: ($event: Step) => $event,
          },
        },
      },
      IncentiveCompleted: {
        plans: {
          id: ($event: Step) => access($event, "id"),
          occurredAt: ($event: Step) =>
            lambda(access($event, "occurredAt"), (at) => (at as Date).toISOString()),
          userIncentive: ($event: Step) =>
            userIncentives.get({ id: access($event, "userIncentiveId") } as never),
        },
      },
    },
  };
});

function orRefuse(completion: Grafast.Context["completion"]): GrafastSubscriber<Topics> {
  if (completion) return completion;
  throw new SafeError("Subscriptions go over WebSocket (graphql-ws), at the same path.");
}
