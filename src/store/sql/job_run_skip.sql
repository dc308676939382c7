INSERT INTO job_runs (
    id, job, scheduled_for, by_hand, status, attempt, failures, holder, beats, host, pid, started_at, renewed_at,
    ended_at, error
)
VALUES ($1, $2, $3, FALSE, 'skipped', 0, 0, $4, 0, $5, $6, $7, $7, $7, $8)
ON CONFLICT DO NOTHING
