--! Previous: sha1:4ae1ca8534204d3d3c3f1fa928737f8b83dd23b7
--! Hash: sha1:1be55c43c5e07a4a7323bd1294c8f7bf3f14d32f
--! Message: token revocations

-- Tokens are believed until they expire, without asking anybody. This is how to take them back: all that a member was
-- issued before a moment. Single tokens are not kept; a list of them would have to be asked for each request, and the one
-- who lost a phone does not know which token was on it. The API processes keep this table in memory, and read it again when
-- they hear member_changed for everybody, by which they also forget what they keep of that member's answers.

create table app.token_revocations (
  user_id text not null
    constraint a_revocation_is_for_a_user_id_of_1_to_255_characters check (length(user_id) between 1 and 255),
  issued_before timestamptz not null,
  constraint a_member_has_one_revocation primary key (user_id)
);
comment on table app.token_revocations is
  'Members and operators whose tokens issued before a moment are refused. A row may go when those tokens have expired.';

-- No policy on purpose: nobody but the owner reads or writes it.
alter table app.token_revocations enable row level security;

create function app.revoke_tokens(user_id text) returns void
  language plpgsql volatile set search_path = '' as $$
begin
  insert into app.token_revocations
  values (user_id, now())
  on conflict on constraint a_member_has_one_revocation do update
  set issued_before = excluded.issued_before
  where token_revocations.issued_before < excluded.issued_before;
  perform pg_notify('member_changed', '*');
end
$$;
comment on function app.revoke_tokens(text) is 'Has every token of this member, or operator, that was issued before now refused.';

create function api.read_token_revocations() returns table (user_id text, issued_before double precision)
  language sql stable security definer set search_path = '' as $$
  select user_id, extract(epoch from issued_before)::double precision
  from app.token_revocations
$$;
comment on function api.read_token_revocations() is
  E'@behavior -*\nWhose tokens are refused, and up to when they were issued (seconds since 1970).';
-- To the API itself, before it is anybody; to no member and no operator.
grant execute on function api.read_token_revocations() to incentives_authenticator;
