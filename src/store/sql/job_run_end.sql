UPDATE job_runs
SET status = $3, failures = $4, ended_at = $5, renewed_at = $5, rows = $6, error = $7, summary = $8, beats = beats + 1
WHERE id = $1 AND holder = $2 AND status = 'running'
