"""What PostgreSQL has to do for the service: directly, through PgBouncer, and with a replica for lists."""
