UPDATE job_runs SET beats = beats + 1, renewed_at = $3 WHERE id = $1 AND holder = $2 AND status = 'running'
