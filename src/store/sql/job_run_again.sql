UPDATE job_runs
SET attempt = $3, failures = $4, error = $5, beats = beats + 1, renewed_at = $6
WHERE id = $1 AND holder = $2 AND status = 'running'
