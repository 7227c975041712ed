/** The GraphQL types of the mutations in catalogue_mutations.ts. */
import { gql } from "postgraphile/utils";

export const catalogueTypes = gql`
  input CreateIncentiveInput {
    clientMutationId: String
    """
    What to call it, for ever: snake_case.
    """
    key: String!
    name: String!
    description: String
    """
    What judges it. It also decides whether a document or a log is recorded.
    """
    evaluator: String!
    """
    In the form of its evaluator's criteria.
    """
    criteria: JSON!
    """
    True if left out.
    """
    isActive: Boolean
    startsAt: Datetime
    endsAt: Datetime
    """
    What completing it wins: keys of rewards.
    """
    rewards: [String!]
  }

  """
  What is left out stays as it is.
  """
  input UpdateIncentiveInput {
    clientMutationId: String
    """
    Which incentive.
    """
    key: String!
    name: String
    description: String
    evaluator: String
    criteria: JSON
    isActive: Boolean
    """
    Null: it has no beginning.
    """
    startsAt: Datetime
    """
    Null: it has no end.
    """
    endsAt: Datetime
  }

  input CreateRewardInput {
    clientMutationId: String
    """
    What to call it, for ever: snake_case.
    """
    key: String!
    name: String!
    kind: String!
    """
    How much of the unit it pays.
    """
    amount: BigFloat!
    unit: String!
  }

  """
  What is left out stays as it is.
  """
  input UpdateRewardInput {
    clientMutationId: String
    """
    Which reward.
    """
    key: String!
    name: String
    kind: String
    amount: BigFloat
    unit: String
  }

  input SetIncentiveRewardsInput {
    clientMutationId: String
    """
    The incentive's key.
    """
    incentive: String!
    """
    Keys of rewards: these and no others.
    """
    rewards: [String!]!
  }

  input SetListenerActiveInput {
    clientMutationId: String
    """
    The listener's name.
    """
    name: String!
    isActive: Boolean!
  }

  """
  An incentive, as it is now.
  """
  type IncentivePayload {
    clientMutationId: String
    incentive: Incentive
    query: Query
  }

  """
  A reward, as it is now.
  """
  type RewardPayload {
    clientMutationId: String
    reward: Reward
    query: Query
  }

  """
  A listener, as it is now.
  """
  type ListenerPayload {
    clientMutationId: String
    incentiveListener: IncentiveListener
    query: Query
  }

  extend type Mutation {
    """
    For operators: a new incentive.
    """
    createIncentive(input: CreateIncentiveInput!): IncentivePayload
    """
    For operators: changes an incentive. What is won stays won; everything else is judged again.
    """
    updateIncentive(input: UpdateIncentiveInput!): IncentivePayload
    """
    For operators: a new reward.
    """
    createReward(input: CreateRewardInput!): RewardPayload
    """
    For operators: changes a reward, for those who win it from now on.
    """
    updateReward(input: UpdateRewardInput!): RewardPayload
    """
    For operators: what completing an incentive wins from now on.
    """
    setIncentiveRewards(input: SetIncentiveRewardsInput!): IncentivePayload
    """
    For operators: whether a listener is told of completions from now on.
    """
    setListenerActive(input: SetListenerActiveInput!): ListenerPayload
  }
`;
