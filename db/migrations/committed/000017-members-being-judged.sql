--! Previous: sha1:0bd48ace59ac43f3295f1bedc6fa1c840e31ce04
--! Hash: sha1:4ae1ca8534204d3d3c3f1fa928737f8b83dd23b7
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
declare
  listening constant integer[] := array(
    select pid
    from pg_stat_activity
    where datname = current_database()
    and application_name = 'incentives live'
  );
begin
  -- A transaction that notifies waits in line for every other that does: only where somebody hears it.
  if listening = '{}' then
    return;
  end if;
  perform pg_notify(
    'member_changed',
    '~' || token || ' '
    || string_agg(distinct encode(substr(sha256(convert_to(user_id, 'UTF8')), 1, 3), 'base64'), '')
  )
  from app.user_incentives
  where id = any (ids)
  having count(*) > 0;
  return query select unnest(listening);
end
$$;
comment on function app.notify_judging(bigint[], text) is
  'Has the API processes answer nothing from memory to the members of these rows (1,900 at the most) until they are judged. Returns the sessions that will say, by the token, that they have heard.';
