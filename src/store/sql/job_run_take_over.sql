UPDATE job_runs
SET
    status = 'running', attempt = attempt + CASE status WHEN 'running' THEN 1 ELSE 0 END, holder = $4, beats = beats + 1,
    host = $5, pid = $6, started_at = $7, renewed_at = $7, ended_at = NULL
WHERE id = $1 AND holder = $2 AND beats = $3 AND status IN ('running', 'aborted')
