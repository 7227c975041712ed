--! Previous: sha1:636161311cdf7ff7f0b514e771db7223fe0ee415
--! Hash: sha1:cf78f5295c06b28dbcb96fe16917f7a6b881b6ed
--! Message: user incentives

-- Stage 1, write: the table a member's action lands in. The row is also the queue: `evaluation_due` says that it waits
-- to be judged. There is no separate queue table, because a second row per write would double what a writer pays.

create table app.user_incentives (
  id bigint generated always as identity primary key,
  user_id text not null
    constraint a_user_id_has_1_to_255_characters check (length(user_id) between 1 and 255),
  incentive_id integer not null
    constraint a_user_incentive_is_for_an_incentive references app.incentives on delete restrict,
  data jsonb not null,
  status text not null default 'in_progress'
    constraint status_is_in_progress_completed_or_invalid
      check (status in ('in_progress', 'completed', 'invalid')),
  progress double precision not null default 0
    constraint progress_is_from_0_to_1 check (progress between 0 and 1),
  explanation jsonb not null default '[]',
  evaluation_due boolean not null default true,
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint a_member_has_one_row_per_incentive unique (user_id, incentive_id),
  constraint a_completed_row_says_when check ((status = 'completed') = (completed_at is not null))
);
-- What the worker claims: only the rows that wait, so it stays small however large the table grows.
create index user_incentives_due on app.user_incentives (id) where evaluation_due;
-- Serves the foreign key; the unique constraint serves a member's reads.
create index user_incentives_by_incentive on app.user_incentives (incentive_id);

comment on table app.user_incentives is
  'What a member did for an incentive, and what came of it. One row per member and incentive.';
comment on column app.user_incentives.user_id is 'The member: the subject (sub) of their token.';
comment on column app.user_incentives.data is 'What the member recorded: health data. It leaves this column only to its member.';
comment on column app.user_incentives.explanation is 'For each condition: what was needed, what counted, what was ignored and why.';
comment on column app.user_incentives.evaluation_due is 'Waits to be judged. Set on insert and whenever data really changes.';

-- Keeps a row consistent whoever changes it: changed data is due again, a status set by hand says when, and a row stays where
-- it is. Few triggers on this table, and few conditions in them, on purpose: PostgreSQL copies every trigger of a table,
-- conditions and all, for each statement, so that an insert pays for the triggers on update too.
create function app.tg_user_incentives__stamp_update() returns trigger
  language plpgsql volatile set search_path = '' as $$
begin
  if new.user_id <> old.user_id or new.incentive_id <> old.incentive_id then
    raise exception 'A user incentive stays with its member and incentive; delete it and insert another.'
      using errcode = 'IN001';
  end if;
  if new.data is distinct from old.data then
    new.evaluation_due := true;
    new.updated_at := now();
  end if;
  if new.status = 'completed' and new.completed_at is null then
    new.completed_at := now();
    new.progress := 1;
    new.updated_at := now();
  elsif new.status <> 'completed' and new.completed_at is not null then
    new.completed_at := null;
    new.updated_at := now();
  end if;
  return new;
end
$$;
comment on function app.tg_user_incentives__stamp_update() is
  'Changed data is due again; a status set by hand says when; a row stays with its member and incentive.';

create trigger _100_stamp_update before update on app.user_incentives
  for each row when (current_setting('incentives.applying_verdicts', true) is distinct from 'on')
  execute function app.tg_user_incentives__stamp_update();

create trigger _200_forbid_truncate before truncate on app.user_incentives
  for each statement execute function app.tg__forbid('delete the rows instead, so that the cache hears of it');

-- No policy on purpose: whoever is granted this table by mistake still sees no row. Members read through api.
alter table app.user_incentives enable row level security;
