INSERT INTO job_schedules (job, schedule, since) VALUES ($1, $2, $3)
ON CONFLICT (job) DO UPDATE SET schedule = excluded.schedule, since = excluded.since
WHERE job_schedules.schedule <> excluded.schedule
