SELECT * FROM job_runs WHERE job = $1 AND status = 'running'
