-- For psql, as servease_owner after `db upgrade`: what the role that serves may do. It can be run again.
\set ON_ERROR_STOP on
GRANT SELECT, INSERT, UPDATE, DELETE ON appointments, time_slots, idempotency_keys TO servease_service;
GRANT SELECT, INSERT ON appointment_history TO servease_service;
GRANT SELECT ON appointment_counts, appointment_count_changes, appointment_service_alembic_version TO servease_service;
GRANT SELECT ON appointment_events, appointment_events_state TO servease_service;
GRANT UPDATE (delivered_number) ON appointment_events_state TO servease_service;
