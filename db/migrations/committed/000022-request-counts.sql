--! Previous: sha1:8b35dd15c6caf3736aa8d9564a0ca1741fad44e9
--! Hash: sha1:a38d01d09b4ef69e1a55fb476de7bf0e4909abc8
--! Message: request counts

-- How often a client asked, over all API processes. Each process counts in memory, because a request that is answered from
-- memory must not pay for a query; once a second it adds here what those who ask a lot asked of it, and learns what they
-- asked of the others. Unlogged: after a crash of the server counting begins anew. Clients are hashes, kept for two minutes.

create unlogged table app.request_counts (
  minute bigint not null,
  client text not null,
  requests bigint not null
    constraint requests_are_counted_upwards check (requests >= 0),
  constraint a_client_is_counted_once_a_minute primary key (minute, client)
);
comment on table app.request_counts is
  'Requests of each client (a hash of member or address) in a minute (of those since 1970), over all API processes.';

-- No policy on purpose: nobody but the owner reads or writes it.
alter table app.request_counts enable row level security;

create function api.share_request_counts(minute bigint, clients text[], more integer[])
  returns table (client text, requests bigint)
  language sql volatile security definer set search_path = '' as $$
  -- Two processes may do so at once.
  delete from app.request_counts as old
  where (old.minute, old.client) in (
    select past.minute, past.client
    from app.request_counts as past
    where past.minute < share_request_counts.minute - 1
    for update skip locked
  );
  insert into app.request_counts as counted (minute, client, requests)
  select share_request_counts.minute, added.client, added.more
  from unnest(share_request_counts.clients, share_request_counts.more) as added (client, more)
  -- In one order, so that processes with clients in common wait for one another and never deadlock.
  order by added.client
  on conflict on constraint a_client_is_counted_once_a_minute do update
  set requests = counted.requests + excluded.requests
  returning counted.client, counted.requests
$$;
comment on function api.share_request_counts(bigint, text[], integer[]) is
  E'@behavior -*\nAdds what these clients asked of one process in this minute; returns what they asked of all.';
-- To the API itself, before it is anybody; to no member and no operator.
grant execute on function api.share_request_counts(bigint, text[], integer[]) to incentives_authenticator;
