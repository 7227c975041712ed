-- After `graphile-migrate reset`, which made the database anew and took CONNECT from everybody.
alter database :DATABASE_NAME owner to incentives_owner;
grant connect on database :DATABASE_NAME to incentives_owner, incentives_authenticator;
