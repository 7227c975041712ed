/** The examples in the OpenAPI document; its linter holds them against the schemas. */
export const userIncentive = {
  id: "1",
  incentive: { key: "birth_record", name: "Record your birth" },
  status: "completed",
  progress: 1,
  data: { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" },
  explanation: [{ condition: "birth_date_is_real", met: true, message: "The date is a real one." }],
  completed_at: "2021-09-15T17:15:01.5+00:00",
  created_at: "2021-09-15T17:15:01+00:00",
  updated_at: "2021-09-15T17:15:01.5+00:00",
};

export const reward = {
  id: "1",
  reward: {
    key: "birth_gift_card",
    name: "Birth gift card",
    kind: "gift_card",
    amount: 25,
    unit: "USD",
  },
  incentive: userIncentive.incentive,
  won_at: "2021-09-15T17:15:01.5+00:00",
};

export const birth = { incentive: "birth_record", data: userIncentive.data };
export const mood = {
  incentive: "health_data_log",
  data: { date: "2021-09-15 17:15:00", data: [{ type: "mood", value: "happy" }] },
};
