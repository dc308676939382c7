UPDATE job_runs
SET status = $4, ended_at = $5, error = $6, beats = beats + 1
WHERE id = $1 AND holder = $2 AND beats = $3 AND status = 'running'
