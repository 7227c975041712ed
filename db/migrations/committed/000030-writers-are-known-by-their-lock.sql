--! Previous: sha1:b01f35a400be2d6c6bb99b693fd7ac56d5b616ff
--! Hash: sha1:617661a4df2408d482d591068bd007523e1cc855
--! Message: writers are known by their lock

-- Stage 3, the bell's step 3 (000004) anew: instead of taking an id and waiting until every transaction before it is over, a
-- run waits for those that have written to the table. Ids are the whole server's: whatever had one open, a refresh of the
-- cache or a long transaction of another database, kept every run from its end, and a row that came meanwhile waited for up to
-- a second. Who writes to a table holds a lock on it (ROW EXCLUSIVE) from before its triggers look until after its rows are there
-- for others to see, or its savepoint is rolled back and its rows are gone. CREATE INDEX CONCURRENTLY waits in the same way.
-- And who has claimed rows (ROW SHARE, SELECT FOR UPDATE) is waited for too: they are skipped as long as they are claimed, and due
-- again if their worker dies, or was stopped and taken for dead.
create function app.writers_of(written regclass) returns text[]
  language sql volatile set search_path = '' as $$
  select coalesce(array_agg(distinct case when pid is null then 'prepared' else virtualtransaction end), '{}')
  from pg_locks
  where locktype = 'relation'
  and relation = written
  and database = (select oid from pg_database where datname = current_database())
  and mode in ('RowShareLock', 'RowExclusiveLock')
  and granted
$$;
comment on function app.writers_of(regclass) is
  'The virtual ids of the transactions that have written to this table, or locked rows of it, and are not over, and `prepared` if any of them is prepared (PREPARE TRANSACTION), which takes its virtual id away.';
