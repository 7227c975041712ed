-- The demo: the two incentives of the first programme, what they pay, and who is told. `npm start` loads it into the embedded
-- database only. Loading it again changes nothing that an operator has changed since.

insert into app.incentives (key, name, description, evaluator, records, criteria)
values
  (
    'birth_record',
    'Record your birth',
    'Tell us when your child was born.',
    'birth_record',
    'document',
    '{"report_within_days": 365}'
  ),
  (
    'health_data_log',
    'Log how you feel',
    'Log a mood or a symptom on two days of a week.',
    'health_data_log',
    'log',
    '{"required_days": 2, "within_days": 7}'
  )
on conflict (key) do nothing;

insert into app.rewards (key, name, kind, amount, unit)
values
  ('birth_gift_card', 'Birth gift card', 'gift_card', 25, 'USD'),
  ('log_points', 'Points for logging', 'points', 100, 'points')
on conflict (key) do nothing;

insert into app.incentive_rewards (incentive_id, reward_id)
select incentives.id, rewards.id
from (values ('birth_record', 'birth_gift_card'), ('health_data_log', 'log_points'))
  as pays (incentive, reward)
join app.incentives on incentives.key = pays.incentive
join app.rewards on rewards.key = pays.reward
on conflict do nothing;

insert into app.incentive_listeners (name)
values ('log_completion')
on conflict (name) do nothing;
