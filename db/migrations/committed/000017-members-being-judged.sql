--! Previous: sha1:0bd48ace59ac43f3295f1bedc6fa1c840e31ce04
--! Hash: sha1:e967383cf038fb5c28a52cf79a71c06a958c5eb1
--! Message: members being judged

-- NOTIFY member_changed with `~` in front: these members are being judged. The worker sends it when it has claimed their rows,
-- from a connection of its own, because what a transaction notifies is sent when it commits. Whoever answers from memory
-- stops doing so for these members until their verdict is told, or some seconds are over, and says so by NOTIFY
-- members_heard; the worker waits for that, some milliseconds at the most, while the rows are being judged, before it commits.
--
-- Why, when the verdict is told anyway: a commit wakes all its listeners at once, in no order. Whoever hears of a completion
-- and asks an API process may be there before that process has heard of the change: one in three was answered with the
-- state before it. Sent ahead without waiting it was one in twenty-five.

create function app.notify_judging(ids bigint[], token text) returns setof integer
  language plpgsql volatile set search_path = '' as $$
begin
  perform pg_notify(
    'member_changed',
    '~' || token || ' '
    || string_agg(distinct encode(substr(sha256(convert_to(user_id, 'UTF8')), 1, 3), 'base64'), '')
  )
  from app.user_incentives
  where id = any (ids)
  having count(*) > 0;

  return query
  select pid
  from pg_stat_activity
  where datname = current_database()
  and application_name = 'incentives live';
end
$$;
comment on function app.notify_judging(bigint[], text) is
  'Has the API processes answer nothing from memory to the members of these rows (1,900 at the most) until they are judged. Returns the sessions that will say, by the token, that they have heard.';
