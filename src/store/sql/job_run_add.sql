INSERT INTO job_runs (
    id, job, scheduled_for, by_hand, status, attempt, failures, holder, beats, host, pid, started_at, renewed_at
)
VALUES ($1, $2, $3, $4, 'running', 1, 0, $5, 0, $6, $7, $8, $8)
ON CONFLICT DO NOTHING
